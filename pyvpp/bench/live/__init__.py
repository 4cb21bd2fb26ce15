# SPDX-License-Identifier: Apache-2.0
"""`pyvpp bench --live`: real packets through networks that the bench builds, next to Linux doing the same.

Each lab is built once for each way (plain Linux, pyvpp by af_packet, pyvpp by AF_XDP); then rounds: every scenario over
every way once, in turn, so that a slow minute of the machine hits all of them. A figure is the median of the rounds, a
ratio to Linux the median of the ratios within a round.

    agent      one end of the traffic, a process in a namespace
    traffic    the bench's side of the agents; TCP by iperf3 or by Python
    cpu        processor time of pyvpp and of the whole lab
    labs       the networks: uplink, router, pods on two nodes
    scenario   what a scenario is; scenarios: all of them
    tcp, small_packets, latency    how they measure
    figures    medians, ratios and their spread, as JSON
    session    one invocation: builds, measures in rounds, cleans up
    report, page    the table for a terminal, the HTML page
"""
