#!/usr/bin/env python3
"""A gRPC server in pure Python (grpclib over h2) with its own health service, for tests of mcp-health.

Prints its port. Knows the services "" and "up" (SERVING), "down" (NOT_SERVING) and "unsure" (UNKNOWN).
Ends when its standard input does.
"""

import asyncio
import sys

from grpclib.health.check import ServiceStatus
from grpclib.health.service import OVERALL, Health
from grpclib.server import Server


class Named:
    """What grpclib takes for a service: it asks for no more than the names of its methods."""

    def __init__(self, name):
        self.name = name

    def __mapping__(self):
        return {f"/{self.name}/Call": None}


def known(status):
    check = ServiceStatus()
    check.set(status)
    return [check]


async def main():
    checks = {Named("up"): known(True), Named("down"): known(False), Named("unsure"): known(None)}
    health = Health({OVERALL: known(True), **checks})
    if "--bare" in sys.argv:
        health = Named("other")
    server = Server([health])
    await server.start("127.0.0.1", 0)
    print(server._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(main())
