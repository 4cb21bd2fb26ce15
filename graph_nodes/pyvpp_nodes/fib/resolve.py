# SPDX-License-Identifier: Apache-2.0
"""From the paths of a route to the adjacencies at their end, and what must be looked at again when one of them moves.

Recursive paths are flattened: a route's load balance holds the adjacencies at the end of the chain, never another load
balance. Routes and tunnels that go through an address hang on a `Track`, and the track on the route that the address
takes; so a change visits exactly those it concerns. A path that leads back to its own route counts for nothing, like
one that ends in a drop.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pyvpp_nodes.fib.adjacency import DROP, PROHIBIT, PUNT, UNREACHABLE, Adjacencies
from pyvpp_nodes.fib.entry import NO_INTERFACE, Follower, Path, Route, Track, Via
from pyvpp_nodes.fib.family import Family
from pyvpp_nodes.fib.load_balance import DROPPED, LoadBalances, Shares
from pyvpp_nodes.fib.vrf import Vrf

FIXED = {Via.DROP: DROP, Via.PUNT: PUNT, Via.UNREACHABLE: UNREACHABLE, Via.PROHIBIT: PROHIBIT}


class Resolver:
    """Keeps the shares of routes and followers true. `vrf(fib_index)` gives a table."""

    def __init__(
        self, family: Family, vrf: Callable[[int], Vrf], adjacencies: Adjacencies, load_balances: LoadBalances
    ) -> None:
        self.routes: dict[int, Route] = {}  # by load balance
        self.tunnels: dict[int, Follower] = {}  # by their interface
        self._family = family
        self._vrf = vrf
        self._adjacencies = adjacencies
        self._load_balances = load_balances

    # -- routes and followers come and go

    def enter(self, route: Route) -> None:
        """A new route gets its load balance."""
        route.vias = self._acquire_vias(route)
        route.shares = self.resolve(route)
        route.lb = self._load_balances.create(route.shares, family=self._family)
        self.routes[route.lb] = route

    def leave(self, route: Route) -> None:
        """A route that nothing leads to any more."""
        self._release_vias(route.vias, route)
        del self.routes[route.lb]
        self._load_balances.destroy(route.lb)

    def changed(self, route: Route) -> None:
        """Other paths decide about the route now."""
        old = route.vias
        route.vias = self._acquire_vias(route)
        self._release_vias(tuple(track for track in old if track not in route.vias), route)
        self.propagate([route], edges=True)

    def moved(self, tracks: list[Track]) -> None:
        """These addresses take other routes now."""
        users = dict.fromkeys(user for track in tracks for user in track.users)
        if users:
            self.propagate(list(users), edges=True)

    def follow(self, follower: Follower) -> None:
        follower.track.users[follower] = None
        if follower.through != NO_INTERFACE:
            self.tunnels[follower.through] = follower
        self.propagate([follower, *self._users(follower)], edges=True)

    def unfollow(self, follower: Follower) -> None:
        users = self._users(follower)
        if self.tunnels.get(follower.through) is follower:
            del self.tunnels[follower.through]
        self._release_vias((follower.track,), follower)
        self.propagate(users, edges=True)

    def _acquire_vias(self, route: Route) -> tuple[Track, ...]:
        vrf = self._vrf(route.fib_index)
        found = dict.fromkeys(vrf.track(path.address) for path in route.paths if path.via == Via.RECURSIVE)
        for track in found:
            track.users[route] = None
        return tuple(found)

    def _release_vias(self, tracks: tuple[Track, ...], user: Route | Follower) -> None:
        for track in tracks:
            track.users.pop(user, None)
            self._vrf(track.fib_index).drop_if_unused(track)

    # -- paths

    def resolve(self, route: Route) -> Shares:
        """Where the route's best source leads now: the paths of the lowest preference that lead anywhere."""
        paths = route.paths
        if len(paths) == 1:
            return self.path(route, paths[0]) or DROPPED
        for preference in sorted({path.preference for path in paths}):
            shares: list[tuple[float, int]] = []
            for path in paths:
                if path.preference == preference:
                    found = self.path(route, path)
                    total = sum(weight for weight, _ in found)
                    shares += [(path.weight * weight / total, adjacency) for weight, adjacency in found]
            if shares:
                return _merged(shares)
        return DROPPED

    def path(self, route: Route, path: Path) -> Shares:
        """What one path contributes; nothing when it leads nowhere at the moment."""
        via, adjacencies, family = path.via, self._adjacencies, self._family
        if via in FIXED:
            return ((1.0, FIXED[via]),)
        if via == Via.RECEIVE:
            return ((1.0, adjacencies.local(path.sw_if_index, path.address, family)),)
        if via == Via.RECURSIVE:
            ahead = self._vrf(route.fib_index).tracks[path.address].route
            return () if ahead.shares == DROPPED or self._leads_to(ahead, route) else ahead.shares
        link = adjacencies.links.get(path.sw_if_index)
        if link is None or not link.admin_up:
            return ()
        if via == Via.ATTACHED_NEXTHOP or link.p2p:
            return ((1.0, adjacencies.neighbor(link.sw_if_index, path.address, family)),)
        if via == Via.CONNECTED:
            prefix = path.address & family.mask(path.length)
            return ((1.0, adjacencies.glean(link.sw_if_index, prefix, path.length, path.address, family)),)
        return ((1.0, adjacencies.glean(link.sw_if_index, 0, 0, 0, family)),)

    def contribution(self, route: Route, path: Path) -> Shares:
        """What a path of the route's best source adds to its shares now."""
        found, used = self.path(route, path), {adjacency for _, adjacency in route.shares}
        for _, adjacency in found:
            self._adjacencies.free_if_unused(adjacency)
        return tuple(share for share in found if share[1] in used)

    def _leads_to(self, start: Route, goal: Route | Follower) -> bool:
        """Does the way through `start` come to `goal`? A tunnel is sought through other tunnels too."""
        if start is goal:
            return True
        over_tunnels = isinstance(goal, Follower) and bool(self.tunnels)
        if not start.vias and not over_tunnels:
            return False
        seen, todo = {start}, [start]
        while todo:
            route = todo.pop()
            ahead = [track.route for track in route.vias]
            if over_tunnels:
                for path in route.paths:
                    tunnel = self.tunnels.get(path.sw_if_index)
                    if tunnel is goal:
                        return True
                    if tunnel is not None:
                        ahead.append(tunnel.track.route)
            for each in ahead:
                if each is goal:
                    return True
                if each not in seen:
                    seen.add(each)
                    todo.append(each)
        return False

    # -- propagation

    def _users(self, node: Route | Follower) -> list[Any]:
        """Who is resolved through this route or tunnel."""
        if isinstance(node, Route):
            return [user for track in node.tracks for user in track.users]
        adjacencies = self._adjacencies.on_link(node.through) if node.through != NO_INTERFACE else []
        return [self.routes[index] for each in adjacencies for index in each.users if index in self.routes]

    def propagate(self, nodes: list[Any], *, edges: bool) -> None:
        """Recompute `nodes` and, for as long as something changes, who depends on them.

        When edges changed (who goes through whom), loops may have opened or closed, so everything downstream is
        looked at once even if what lies between did not change. A path that loops counts for nothing on every route of
        the loop; what is left depends on each other without cycles, and this ends.
        """
        queue = deque(nodes)
        waiting = set(nodes)
        forced: set[Any] = set(nodes) if edges else set()
        while queue:
            node = queue.popleft()
            waiting.discard(node)
            changed = self._recompute(node)
            if not changed and node not in forced:
                continue
            for user in self._users(node):
                if node in forced and user not in forced:
                    forced.add(user)
                elif not changed:
                    continue
                if user not in waiting:
                    waiting.add(user)
                    queue.append(user)

    def _recompute(self, node: Route | Follower) -> bool:
        if isinstance(node, Follower):
            self._recompute_follower(node)
            return False
        shares = self.resolve(node)
        if shares == node.shares:
            return False
        node.shares = shares
        self._load_balances.update(node.lb, shares)
        return True

    def _recompute_follower(self, follower: Follower) -> None:
        route = follower.track.route
        follower.looped = follower.through != NO_INTERFACE and self._leads_to(route, follower)
        follower.lb, follower.shares = (0, DROPPED) if follower.looped else (route.lb, route.shares)
        follower.callback(follower)


def _merged(shares: Iterable[tuple[float, int]]) -> Shares:
    """One share per adjacency."""
    by_adjacency: dict[int, float] = {}
    for weight, adjacency in shares:
        by_adjacency[adjacency] = by_adjacency.get(adjacency, 0.0) + weight
    if len(by_adjacency) == 1:
        return ((1.0, next(iter(by_adjacency))),)
    return tuple((weight, adjacency) for adjacency, weight in by_adjacency.items())
