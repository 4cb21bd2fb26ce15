# SPDX-License-Identifier: Apache-2.0
"""pyvpp: a vector packet processor in userspace. This package is the engine and knows no protocol."""

__version__ = "0.1.0"
