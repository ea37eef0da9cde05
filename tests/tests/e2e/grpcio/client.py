import collections, sys, threading
import grpc

target, authority = sys.argv[1], sys.argv[2]
options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
if authority:
    options.append(("grpc.default_authority", authority))
channel = grpc.insecure_channel(target, options)

def code(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""

unary = channel.unary_unary("/test.Test/Unary")
for size in [0, 1, 271828, 4_000_000]:
    message = bytes(size)
    assert unary(message, timeout=30) == message, size
answer, call = unary.with_call(b"x", metadata=(("x-echo", "e"), ("x-more", "m")), timeout=30)
assert dict(call.initial_metadata()).get("x-echo") == "e", call.initial_metadata()
trailing = dict(call.trailing_metadata())
assert trailing["x-trailer"] == "t" and trailing["x-bytes-bin"] == b"\x00\xff", trailing

out = list(channel.unary_stream("/test.Test/Out")(b"1000", timeout=30))
assert out == [b"%d" % at for at in range(1000)], len(out)
assert channel.stream_unary("/test.Test/In")(iter([bytes(1000)] * 100), timeout=30) == b"100000"

# Ping-pong: each message waits for the last one's answer.
turn, said = threading.Semaphore(1), []
def ask():
    for at in range(20):
        assert turn.acquire(timeout=20)
        yield b"%d" % at
for answer in channel.stream_stream("/test.Test/Both")(ask(), timeout=30):
    said.append(answer)
    turn.release()
assert len(said) == 20, said

status, details = code(lambda: channel.unary_unary("/test.Test/Fails")(b"", timeout=30))
assert (status, details) == (grpc.StatusCode.FAILED_PRECONDITION, "caf\u00e9 100%"), (status, details)
status, _ = code(lambda: channel.unary_unary("/test.Test/Nothing")(b"", timeout=30))
assert status == grpc.StatusCode.UNIMPLEMENTED, status
status, _ = code(lambda: channel.unary_unary("/test.Test/Slow")(b"", timeout=0.5))
assert status == grpc.StatusCode.DEADLINE_EXCEEDED, status

# Cancelled after the first answer.
waits = channel.unary_stream("/test.Test/Waits")(b"", timeout=30)
assert next(waits) == b"first"
waits.cancel()
if len(sys.argv) > 3:
    assert channel.unary_unary("/test.Test/WasCancelled")(b"", timeout=30) == b"yes"

# Cancelled as it begins.
unary.future(b"").cancel()

who = channel.unary_unary("/test.Test/Who")
calls, names = [], collections.Counter()
for _ in range(60):
    calls = [who.future(b"", timeout=60) for _ in range(50)]
    names.update(call.result().decode() for call in calls)
print(" ".join(f"{name}={names[name]}" for name in sorted(names)))
