# SPDX-License-Identifier: Apache-2.0
"""The host behind an uplink: its frames pass between wire and TAP unchanged, except what pyvpp owns."""
