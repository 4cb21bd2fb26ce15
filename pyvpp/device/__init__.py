# SPDX-License-Identifier: Apache-2.0
"""Device drivers: each has a Python class that opens the device and its rings, and two kernels, one per direction."""
