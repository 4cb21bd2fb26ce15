# SPDX-License-Identifier: Apache-2.0
"""Segmentation and checksums in software, where no device will do them."""
