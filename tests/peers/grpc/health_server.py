#!/usr/bin/env python3
"""A gRPC server of grpcio with its own health service, for tests of mcp-health.

Prints its port, then for each call its metadata as one JSON object. Knows the services "" and "up" (SERVING), "down"
(NOT_SERVING) and "unsure" (UNKNOWN); "slow" answers after a minute, "sorry" with UNAVAILABLE and odd words.
Ends when its standard input does.
"""

import argparse
import asyncio
import json
import sys
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

Status = health_pb2.HealthCheckResponse
KNOWN = {"": Status.SERVING, "up": Status.SERVING, "down": Status.NOT_SERVING, "unsure": Status.UNKNOWN}
SORRY = "nicht jetzt: 100% \N{EURO SIGN}\x1b[31m\nzwei"

parser = argparse.ArgumentParser()
parser.add_argument("--cert", help="speak TLS with this certificate")
parser.add_argument("--key")
parser.add_argument("--client-ca", help="want a client certificate of this CA")
parser.add_argument("--bare", action="store_true", help="have no health service")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--service", action="append", default=[], help="know this one too, as SERVING")
parser.add_argument("--aio", action="store_true", help="be grpc.aio's server")
args = parser.parse_args()
KNOWN.update({service: Status.SERVING for service in args.service})


def tell(context):
    print(json.dumps({k: str(v) for k, v in context.invocation_metadata()}), flush=True)


class Health(health.HealthServicer):
    def Check(self, request, context):
        tell(context)
        if request.service == "sorry":
            context.abort(grpc.StatusCode.UNAVAILABLE, SORRY)
        if request.service == "slow":
            threading.Event().wait(60)
        return super().Check(request, context)


class AioHealth(health.aio.HealthServicer):
    async def Check(self, request, context):
        tell(context)
        if request.service == "sorry":
            await context.abort(grpc.StatusCode.UNAVAILABLE, SORRY)
        if request.service == "slow":
            await asyncio.sleep(60)
        return await super().Check(request, context)


def listen(server):
    if not args.cert:
        return server.add_insecure_port(f"127.0.0.1:{args.port}")
    pair = (open(args.key, "rb").read(), open(args.cert, "rb").read())
    roots = open(args.client_ca, "rb").read() if args.client_ca else None
    return server.add_secure_port(f"127.0.0.1:{args.port}", grpc.ssl_server_credentials([pair], roots, bool(args.client_ca)))


async def serve_aio():
    server = grpc.aio.server()
    servicer = AioHealth()
    if not args.bare:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for service, status in KNOWN.items():
        await servicer.set(service, status)
    port = listen(server)
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(4))
    servicer = Health()
    if not args.bare:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for service, status in KNOWN.items():
        servicer.set(service, status)
    port = listen(server)
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


if args.aio:
    asyncio.run(serve_aio())
else:
    serve()
