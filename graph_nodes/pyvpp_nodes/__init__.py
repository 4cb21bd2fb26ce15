# SPDX-License-Identifier: Apache-2.0
"""The network stack: one folder a protocol, one file a node. The engine finds it by the entry point pyvpp.plugins."""
