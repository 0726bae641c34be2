"""Triton's gRPC stream, where a request may have several answers, each as it comes: its HTTP door has none for them.

Its `generate_stream` over HTTP takes one row, no missing number among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple

from components.errors import GateError, TimeLimitError, UnavailableError

MAX_MESSAGE: Final = 2**31 - 1


class RawTensor(NamedTuple):
    """A tensor as Triton takes and gives it: `data` holds its values as the binary extension has them."""

    name: str
    datatype: str
    shape: list[int]
    data: bytes


class TritonStream:
    """Asks for streams of answers.

    Args:
        locate: yields `host:port` of the gRPC endpoint, or raises `UnavailableError`; asked for each stream.
        streams: open at the same time, at most; others wait.
    """

    def __init__(self, locate: Callable[[], str], streams: int) -> None:
        self._locate = locate
        self._free = asyncio.Semaphore(streams)
        self._channel: tuple[str, Any] = ("", None)

    async def ask(
        self, model: str, inputs: Sequence[RawTensor], seconds: float, longest: float
    ) -> AsyncIterator[list[RawTensor]]:
        """Each answer as it comes; whoever stops listening ends it.

        Args:
            model: its name.
            inputs: all of them.
            seconds: that each answer may take, and a free place for the stream.
            longest: seconds that all of it may take.

        Raises:
            UnavailableError: Triton does not answer.
            TimeLimitError: it did not answer in time.
            GateError: it refuses; its own words are in the details.
        """
        import grpc

        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError:
            raise TimeLimitError("the model was busy all the time") from None
        call = None
        try:
            call = self._opened(model, inputs, longest)
            while (found := await self._next(call, seconds)) is not None:
                yield found
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeLimitError(f"the answers took more than {longest:g} s") from error
            raise UnavailableError(f"Triton does not answer: {error.details()}", next_step="trilha status") from error
        finally:
            self._free.release()
            if call is not None:
                call.cancel()

    async def close(self) -> None:
        """Let go of the connection."""
        _, channel = self._channel
        if channel is not None:
            await channel.close()

    def _opened(self, model: str, inputs: Sequence[RawTensor], longest: float) -> Any:
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        request = service_pb2.ModelInferRequest(
            model_name=model,
            inputs=[
                service_pb2.ModelInferRequest.InferInputTensor(name=one.name, datatype=one.datatype, shape=one.shape)
                for one in inputs
            ],
            raw_input_contents=[one.data for one in inputs],
        )
        return service_pb2_grpc.GRPCInferenceServiceStub(self._connected()).ModelStreamInfer(
            iter([request]), timeout=longest
        )

    def _connected(self) -> Any:
        """A channel to where Triton is now; a restart may move it."""
        import grpc

        address, channel = self._locate(), self._channel[1]
        if self._channel[0] != address:
            options: list[tuple[str, int]] = [
                ("grpc.max_send_message_length", MAX_MESSAGE),
                ("grpc.max_receive_message_length", MAX_MESSAGE),
            ]
            if address.rsplit(":", 1)[0] in {"127.0.0.1", "localhost", "[::1]"}:
                options.append(("grpc.enable_http_proxy", 0))
            channel = grpc.aio.insecure_channel(address, options)  # the one before ends with its last stream
            self._channel = (address, channel)
        return channel

    async def _next(self, call: Any, seconds: float) -> list[RawTensor] | None:
        """The next answer; None after the last one."""
        import grpc

        try:
            async with asyncio.timeout(seconds):
                said = await call.read()
        except TimeoutError:
            raise TimeLimitError("the model did not answer in time") from None
        if said is grpc.aio.EOF:
            return None
        if said.error_message:
            raise GateError(said.error_message.split("\n", 1)[0], details=said.error_message)
        answer = said.infer_response
        return [
            RawTensor(one.name, one.datatype, list(one.shape), data)
            for one, data in zip(answer.outputs, answer.raw_output_contents, strict=True)
        ]
