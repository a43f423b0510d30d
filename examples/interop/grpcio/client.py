"""A client of the inventory over mutual TLS, in Python.

usage: client.py HOST:PORT DIR get|watch      DIR has tls.crt, tls.key and ca.crt
"""

import pathlib
import sys
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from inventory.v1 import inventory_pb2 as pb
from inventory.v1 import inventory_pb2_grpc as service


def connect(address: str, directory: pathlib.Path) -> grpc.Channel:
    """A channel with the credentials that are in the directory now. A channel keeps them: make a new one for new ones."""
    read = {name: (directory / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt") if (directory / name).exists()}
    # The server's certificate is checked against ca.crt, and for the host name of the address.
    credentials = grpc.ssl_channel_credentials(read["ca.crt"], read.get("tls.key"), read.get("tls.crt"))
    return grpc.secure_channel(address, credentials)


def explain(error: grpc.RpcError) -> str:
    """The code, and the reason: an identifier to decide on, where the text may change."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    reasons = [info.reason for detail in (status.details if status else []) if detail.Unpack(info)]
    return " ".join([error.code().name, *reasons, error.details()])


def watch(address: str, directory: pathlib.Path) -> None:
    while True:
        try:
            with connect(address, directory) as channel:
                for level in service.InventoryServiceStub(channel).WatchStock(pb.WatchStockRequest(sku="FAS-M6-20")):
                    print(level.item.sku, level.item.available, flush=True)
        except grpc.RpcError as error:
            print("ended:", explain(error), flush=True)
        except (OSError, ValueError) as error:
            print("credentials that are being replaced:", error, flush=True)
        time.sleep(1)


def main() -> None:
    address, directory, command = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    if command == "watch":
        watch(address, directory)
    try:
        with connect(address, directory) as channel:
            answer = service.InventoryServiceStub(channel).GetItem(pb.GetItemRequest(sku="FAS-M6-20"), timeout=5)
            print(answer.item.name, answer.item.available)
    except grpc.RpcError as error:
        sys.exit(explain(error))


main()
