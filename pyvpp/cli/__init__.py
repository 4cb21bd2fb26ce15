# SPDX-License-Identifier: Apache-2.0
"""The command line: VPP's words, on a unix socket. Start reading at pyvpp.cli.registry."""
