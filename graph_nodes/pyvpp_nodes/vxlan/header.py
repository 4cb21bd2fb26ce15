# SPDX-License-Identifier: Apache-2.0
"""The VXLAN header (RFC 7348, 5): flags, VNI in the upper 24 bits of the second word, reserved zeros around them."""

UDP_BYTES, VXLAN_BYTES = 8, 8
OUTER_BYTES = 20 + UDP_BYTES + VXLAN_BYTES
FLAGS_VALID_VNI = 0x08
PORT = 4789
MAX_VNI = 0xFFFFFF
