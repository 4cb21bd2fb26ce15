# SPDX-License-Identifier: Apache-2.0
"""The forwarding trie: `lookup` is for workers, `owner.Trie` for control code."""
