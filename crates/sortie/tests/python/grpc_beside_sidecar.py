"""A game server that plays one match through the sidecar beside it, over gRPC.

It names neither itself nor its match. Everything about the service is learnt by reflection.
"""

import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

DEADLINE = 60
WILLING_TO_WAIT = 2
MANAGER = "catena.catena_server_manager.CatenaServerManager"

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_http_proxy", 0)])
pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


def call(name, /, **fields):
    method = pool.FindServiceByName(MANAGER).FindMethodByName(name)
    stub = channel.unary_unary(
        f"/{MANAGER}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    request = json_format.ParseDict(fields, GetMessageClass(method.input_type)())
    return stub(request, timeout=DEADLINE, wait_for_ready=True)


def refused(code, name, /, **fields):
    try:
        call(name, **fields)
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error.details()
    raise AssertionError(f"{name} was taken")


nothing = refused(grpc.StatusCode.INVALID_ARGUMENT, "EndMatch")
assert "matchId" in nothing, nothing
offer = None
while offer is None or not offer.HasField("match"):
    offer = call("RequestMatch", hintFlags=WILLING_TO_WAIT)
ready = call("MatchReady", connectionDetails="7777")
assert ready.match_id == offer.match.match_id, ready
servers = call("ListServers").servers
assert [match.match_id for match in servers[0].matches] == [ready.match_id], servers
ended = call("EndMatch")
assert ended.match_id == ready.match_id, ended
print(ready.match_id)
