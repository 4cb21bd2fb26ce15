# SPDX-License-Identifier: Apache-2.0
"""What ipip4-input looks up: which tunnel goes between these two addresses."""

import numpy as np

from pyvpp.tables import Table
from pyvpp_nodes.ipip.tunnel_table import WORDS

IPIP_KEYS = Table("ipip_keys", dtype=np.dtype(np.uint32), capacity=WORDS * 64)
