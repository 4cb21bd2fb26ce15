# SPDX-License-Identifier: Apache-2.0
"""The networks, the same for every way: what differs is who forwards.

uplink  a client's cable ends at a node's eth0. pyvpp takes that over and the node talks through its TAP; Linux's
        counterpart is a router of Linux between the same two ends.
router  client and server on two interfaces of a router: Linux, or pyvpp beside it on the same interfaces.
pods    a pod on each of two nodes, joined by a tunnel: pyvpp's TUNs and tunnels; Linux's veths and its VXLAN.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pyvpp.bench.live.traffic import Agent
from pyvpp.lab.process import LabError, PyvppProcess
from pyvpp.linux.sandbox import Namespace, Sandbox

LINUX, AF_PACKET, AF_XDP = "linux", "af_packet", "af_xdp"
WAYS = (LINUX, AF_PACKET, AF_XDP)
CLIENT, CLIENT_GATEWAY = "10.9.1.2", "10.9.1.1"
SERVER, SERVER_GATEWAY = "10.9.2.2", "10.9.2.1"
NODES = ("192.168.50.1", "192.168.50.2")
TUNNEL_ENDS = ("10.3.0.1", "10.3.0.2")
POD_MTU = 1450  # what VXLAN leaves of 1500; Calico's default
VNI = 4096
SINK, SINK_MAC = "10.9.2.77", "02:00:00:00:00:77"
"""a host that is not there: the server's Linux counts its frames and throws them away at once"""


@dataclass
class Ends:
    """Two ends and who forwards between them."""

    client: Agent
    server: Agent
    client_address: str
    server_address: str
    pyvpps: list[PyvppProcess] = field(default_factory=list)
    gateway_mac: str = ""
    """of the first hop from the client, on a router"""


class Builder:
    """Builds labs in a sandbox; `options` go to every pyvpp."""

    def __init__(self, sandbox: Sandbox, directory: Path, options: tuple[str, ...] = ()) -> None:
        self._sandbox = sandbox
        self._directory = directory
        self._options = options
        self.agents: list[Agent] = []
        self.pyvpps: list[PyvppProcess] = []

    def build(self, lab: str, way: str) -> dict[str, Ends]:
        """The paths of a lab by their names. Raises LabError: this way is not to be had, or does not forward."""
        build = {"uplink": self.uplink, "router": self.router, "pods": self.pods}[lab]
        return build(way)

    def _namespace(self, lab: str, way: str, name: str) -> Namespace:
        made = self._sandbox.namespace(f"{lab}-{way}-{name}")
        made.sysctl("ipv4/ip_forward", 0)
        return made

    def _agent(self, namespace: Namespace) -> Agent:
        self.agents.append(Agent(self._sandbox, namespace))
        return self.agents[-1]

    def _pyvpp(self, name: str, host: Namespace, *options: str) -> PyvppProcess:
        made = PyvppProcess(name, host, self._directory, *options, *self._options)
        self.pyvpps.append(made)
        made.start(self._sandbox)
        return made

    def uplink(self, way: str) -> dict[str, Ends]:
        if way == LINUX:
            return {"uplink": self.router(way, lab="uplink")["router"]}
        client, host = (self._namespace("uplink", way, name) for name in ("client", "host"))
        client.cable("eth0", host, "eth0")
        client.address("eth0", f"{CLIENT}/24")
        host.address("eth0", f"{CLIENT_GATEWAY}/24")
        pyvpp = self._pyvpp(f"uplink-{way}", host, "--uplink", "eth0", "--driver", way.replace("_", "-"))
        pyvpp.wait_until_ready()
        return {"uplink": Ends(self._agent(client), self._agent(host), CLIENT, CLIENT_GATEWAY, [pyvpp])}

    def router(self, way: str, lab: str = "router") -> dict[str, Ends]:
        client, router, server = (self._namespace(lab, way, name) for name in ("client", "router", "server"))
        client.cable("eth0", router, "left")
        server.cable("eth0", router, "right")
        client.address("eth0", f"{CLIENT}/24", gateway=CLIENT_GATEWAY)
        server.address("eth0", f"{SERVER}/24", gateway=SERVER_GATEWAY)
        path = Ends(self._agent(client), self._agent(server), CLIENT, SERVER)
        if way == LINUX:
            router.address("left", f"{CLIENT_GATEWAY}/24")
            router.address("right", f"{SERVER_GATEWAY}/24")
            router.sysctl("ipv4/ip_forward", 1)
            router.neighbor("right", SINK, SINK_MAC)
            path.gateway_mac = router.mac("left")
            return {"router": path}
        router.up("left")
        router.up("right")
        pyvpp = self._pyvpp(f"router-{way}", router)
        pyvpp.wait_until_ready()
        path.pyvpps.append(pyvpp)
        for name, gateway in (("left", CLIENT_GATEWAY), ("right", SERVER_GATEWAY)):
            create = "create host-interface name" if way == AF_PACKET else "create interface af_xdp host-if"
            interface = pyvpp.ctl(f"{create} {name}").strip()
            pyvpp.ctl(f"set interface state {interface} up")
            pyvpp.ctl(f"set interface ip address {interface} {gateway}/24")
            if name == "left":
                path.gateway_mac = mac_of(pyvpp, interface)
        pyvpp.ctl(f"set ip neighbor {interface} {SINK} {SINK_MAC}")
        return {"router": path}

    def pods(self, way: str) -> dict[str, Ends]:
        nodes = [self._namespace("pods", way, f"node{k}") for k in (1, 2)]
        nodes[0].cable("eth0", nodes[1], "eth0")
        for node, address in zip(nodes, NODES, strict=True):
            node.address("eth0", f"{address}/24")
        return self._linux_pods(nodes) if way == LINUX else self._pyvpp_pods(way, nodes)

    def _linux_pods(self, nodes: list[Namespace]) -> dict[str, Ends]:
        agents = []
        for k, node in enumerate(nodes):
            pod = self._namespace("pods", LINUX, f"pod{k + 1}")
            pod.cable("eth0", node, "pod")
            pod.mtu("eth0", POD_MTU)
            pod.address("eth0", f"10.{k + 1}.0.2/24", gateway=f"10.{k + 1}.0.1")
            node.address("pod", f"10.{k + 1}.0.1/24")
            node.vxlan("vxlan0", VNI, NODES[k], NODES[1 - k])
            node.mtu("vxlan0", POD_MTU)
            node.address("vxlan0", f"{TUNNEL_ENDS[k]}/24")
            node.route(f"10.{2 - k}.0.0/24", TUNNEL_ENDS[1 - k])
            node.sysctl("ipv4/ip_forward", 1)
            agents.append(self._agent(pod))
        path = Ends(agents[0], agents[1], "10.1.0.2", "10.2.0.2")
        return {"ipip": path, "vxlan": path}

    def _pyvpp_pods(self, way: str, nodes: list[Namespace]) -> dict[str, Ends]:
        """Two pods a node: one meets its peer through IPIP, the other through VXLAN."""
        driver = way.replace("_", "-")
        pyvpps = [
            self._pyvpp(f"pods{k + 1}-{way}", node, "--uplink", "eth0", "--driver", driver)
            for k, node in enumerate(nodes)
        ]
        for pyvpp in pyvpps:
            pyvpp.wait_until_ready()
        agents: dict[str, list[Agent]] = {"ipip": [], "vxlan": []}
        for k, pyvpp in enumerate(pyvpps):
            ends = f"src {NODES[k]} dst {NODES[1 - k]}"
            for n, (kind, more) in enumerate((("ipip", ""), ("vxlan", f" vni {VNI} l3"))):
                pod = self._namespace("pods", way, f"{kind}{k + 1}")
                address, other = f"10.{k + 1}.{n}.2", f"10.{2 - k}.{n}.2"
                pyvpp.ctl(
                    f"create tap id {n} tun host-ns {pod.name} host-if-name eth0 host-ip4-addr {address}/32 "
                    f"host-mtu-size {POD_MTU}"
                )
                tunnel = pyvpp.ctl(f"create {kind} tunnel {ends}{more}").strip()
                pyvpp.ctl(f"set interface state {tunnel} up")
                pyvpp.ctl(f"ip route add {other}/32 via {tunnel}")
                agents[kind].append(self._agent(pod))
        return {
            kind: Ends(agents[kind][0], agents[kind][1], f"10.1.{n}.2", f"10.2.{n}.2", pyvpps)
            for n, kind in enumerate(agents)
        }


def mac_of(pyvpp: PyvppProcess, interface: str) -> str:
    """The MAC address of an interface, as `show hardware-interfaces` tells it. Raises LabError."""
    for line in pyvpp.ctl(f"show hardware-interfaces {interface}").splitlines():
        if "Ethernet address" in line:
            return line.split()[-1]
    raise LabError(f"{pyvpp.name}: {interface} has no Ethernet address")
