"""Calls over gRPC to the control plane and with the key that the arguments name.

Everything about the services is learnt by reflection; nothing here is generated from our .proto files.
"""

import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

DEADLINE = 60
MANAGER = "catena.catena_server_manager.CatenaServerManager"
BROKER = "catena.catena_match_broker.CatenaMatchBroker"
MATCHMAKING = "catena.catena_matchmaking.CatenaMatchmaking"
EVENTS = "catena.events.Events"
HEALTH = "grpc.health.v1.Health"


address, key = sys.argv[1:3]
channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
database = ProtoReflectionDescriptorDatabase(channel)
pool = DescriptorPool(database)
KEY = ("authorization", f"Bearer {key}")


def rpc(service, name, streamed=False):
    method = pool.FindServiceByName(service).FindMethodByName(name)
    kind = channel.unary_stream if streamed else channel.unary_unary
    assert method.server_streaming == streamed
    stub = kind(
        f"/{service}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    return stub, GetMessageClass(method.input_type)


def begin(service, name, /, metadata=(KEY,), **fields):
    stub, request = rpc(service, name)
    return stub.future(json_format.ParseDict(fields, request()), metadata=metadata, timeout=DEADLINE)


def call(service, name, /, **fields):
    return begin(service, name, **fields).result()


def subscribe(name, metadata, **fields):
    stub, request = rpc(EVENTS, name, streamed=True)
    stream = stub(json_format.ParseDict(fields, request()), metadata=(KEY, *metadata), timeout=DEADLINE)
    first = next(stream)
    assert first.event.WhichOneof("payload") == "empty_event", first
    return stream


def refusal(code, reason, field, service, name, /, metadata=(KEY,), **fields):
    """The call must be refused with this gRPC code, and say so in the details as well."""
    error = begin(service, name, metadata=metadata, **fields).exception()
    assert error is not None and error.code() == code, (name, fields, error)
    trailers = dict(error.trailing_metadata())
    status = GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status"))
    status = status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == code.value[0] and status.message == error.details()
    info = GetMessageClass(pool.FindMessageTypeByName("google.rpc.ErrorInfo"))
    info = info.FromString(status.details[0].value)
    assert (info.reason, info.domain) == (reason, "sortie"), info
    assert info.metadata.get("field") == field, info
    return status
