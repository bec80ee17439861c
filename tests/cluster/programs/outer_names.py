"""A resolver of the outer world on this machine's loopback: web.shop.svc.outer.example is 192.0.2.7. Says its port."""

import asyncio

from podlab.network.dns import ClusterDns
from podlab.network.watching import SERVICES_PATH, SLICES_PATH, ServiceTable
from podlab.node.api import Event


async def main() -> None:
    """Answer for ever."""
    table = ServiceTable()
    resolver = ClusterDns(table, address="127.0.0.1", domain="outer.example", port=0)
    spec = {"clusterIP": "192.0.2.7", "ports": []}
    web = {"metadata": {"namespace": "shop", "name": "web", "uid": "web"}, "spec": spec}
    await resolver.start()
    for path, *objects in ((SERVICES_PATH, web), (SLICES_PATH,)):
        for each in objects:
            table.apply(path, Event("ADDED", each))
        table.apply(path, Event("SYNC", {}))
    print(resolver.address[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
