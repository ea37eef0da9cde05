import sys, threading, time
from concurrent import futures
import grpc

name = sys.argv[3].encode()
cancelled = threading.Event()

def unary(request, context):
    context.set_trailing_metadata((("x-trailer", "t"), ("x-bytes-bin", b"\x00\xff")))
    context.send_initial_metadata(tuple((k, v) for k, v in context.invocation_metadata() if k == "x-echo"))
    return request

def who(request, context):
    return name

def stream_out(request, context):
    for at in range(int(request)):
        yield b"%d" % at

def stream_in(requests, context):
    return b"%d" % sum(len(request) for request in requests)

def both(requests, context):
    for request in requests:
        yield request

def fails(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "caf\u00e9 100%")

def waits(request, context):
    # Before the first answer: of a call that is over nobody would be told.
    context.add_callback(cancelled.set)
    yield b"first"
    cancelled.wait(60)

def was_cancelled(request, context):
    return b"yes" if cancelled.wait(10) else b"no"

def slow(request, context):
    time.sleep(5)
    return b"late"

methods = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Who": grpc.unary_unary_rpc_method_handler(who),
    "Out": grpc.unary_stream_rpc_method_handler(stream_out),
    "In": grpc.stream_unary_rpc_method_handler(stream_in),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Fails": grpc.unary_unary_rpc_method_handler(fails),
    "Waits": grpc.unary_stream_rpc_method_handler(waits),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}
server = grpc.server(futures.ThreadPoolExecutor(64), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", methods),))
print(server.add_insecure_port(f"{sys.argv[1]}:{sys.argv[2]}"), flush=True)
server.start()
server.wait_for_termination()
