# SPDX-License-Identifier: Apache-2.0
"""Labs on one machine: network namespaces, pods and pyvpp as a user starts it, for the demo and for `bench --live`.

place      the sandbox and the directory of one run, which go whatever happens
process    a pyvpp in a namespace, and its CLI
"""
