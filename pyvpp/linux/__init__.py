# SPDX-License-Identifier: Apache-2.0
"""Linux around the graph: what an uplink has, taking it over, and giving it back.

The parts are imported by their own names (`pyvpp.linux.capture`, `journal`, `takeover`, `restore`, `guardian`), so that
the guardian process stays small.
"""
