# SPDX-License-Identifier: Apache-2.0
"""What `pyvpp bench` runs of the stack: scenarios with their models, and traffic for nodes off the straight path."""
