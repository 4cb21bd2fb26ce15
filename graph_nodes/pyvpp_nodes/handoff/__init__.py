# SPDX-License-Identifier: Apache-2.0
"""Handoff: one queue's packets are spread over workers by their flow."""
