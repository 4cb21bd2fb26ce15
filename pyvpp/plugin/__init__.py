# SPDX-License-Identifier: Apache-2.0
"""Plugins: where they are found (`find`)."""
