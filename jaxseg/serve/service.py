"""A model behind HTTP: how a request becomes an answer, whatever happens to it."""

import asyncio
import dataclasses
import functools
import os
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg.checks import UserError, printable
from jaxseg.data.bands import empty_pixels, fill_empty
from jaxseg.inference.memory import OutOfMemory
from jaxseg.inference.predict import Predictor
from jaxseg.serve import answers
from jaxseg.serve.answers import Answer, Wish
from jaxseg.serve.batcher import BOTH, LABEL, PROBABILITIES, Batcher, Image, Result
from jaxseg.serve.counters import Counters
from jaxseg.serve.uploads import Limits, Refused, image_bytes, read_upload

if TYPE_CHECKING:
    import starlette.datastructures
    import starlette.requests
    import starlette.responses

CHOSEN = 4  # ways of applying the model that are kept compiled, besides the server's own
DRAINED = 5.0  # seconds for which the body of a request is read that is refused anyway


class Service:
    """What the requests of a server share: the model, its batches, threads and counters.

    Args:
      predictor: the model.
      limits: of a request.
      batch: largest number of images that are computed together.
      wait: seconds that an image waits for others of its size.
      threads: that read images and write answers; 0 is one per core.
      predictor_of: makes the predictor of a choice, {"tta", "refine"}, each a value of `answers.CHOICES` but "none", or
        "" for the server's own; None lets no request choose.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        limits: Limits | None = None,
        batch: int = 8,
        wait: float = 0.005,
        threads: int = 0,
        predictor_of: Callable[..., Predictor] | None = None,
    ):
        self.predictor, self.trained = predictor, predictor.trained
        self.limits = limits or Limits()
        self.running, self.stopping = 0, False
        gauges = {
            "jaxseg_requests_running": ("Requests that are read, wait or are computed.", lambda: self.running),
            "jaxseg_images_waiting": ("Images that are not being computed yet.", lambda: self.batcher.waiting()),
        }
        self.counters = Counters(gauges)
        self.choices = predictor_of is not None
        chosen = functools.lru_cache(CHOSEN)(lambda way: predictor_of(**dict(way))) if predictor_of else None
        self.batcher = Batcher(predictor, batch=batch, wait=wait, computed=self.counters.computed, model_of=chosen)
        self._batch = batch
        self._pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="images")
        self._folder = tempfile.TemporaryDirectory(prefix="jaxseg-serve-")

    def warm(self, height: int, width: int) -> None:
        """Compiles the programs of all batches of images of one size, so that no request waits for that.

        Args:
          height: of the images, in pixels.
          width: likewise.
        """
        bands = self.trained.bands
        image = np.zeros((height, width, bands.count), bands.dtype)
        count = 1
        while True:
            self.predictor.predict_batch([image] * min(count, self._batch), batch_size=self._batch)
            if count >= self._batch:
                return
            count *= 2

    def close(self) -> None:
        """Computes what was accepted, and ends all threads."""
        self.batcher.close()
        self._pool.shutdown()
        self._folder.cleanup()

    async def predict(self, request: "starlette.requests.Request") -> "starlette.responses.Response":
        """Answers a request for a prediction; whatever goes wrong, with a status and a sentence."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse, Response

        began, headers = time.perf_counter(), {}
        try:
            answer = await self._answer(request)
            status, response = 200, Response(answer.body, media_type=answer.media_type)
        except ClientDisconnect:
            status, response = 499, Response(status_code=499)  # nobody reads it
        except Refused as refused:
            status = refused.status
            headers = {"Retry-After": "1"} if status == 503 else {}
            response = JSONResponse({"error": str(refused)}, status, headers)
        except Exception:  # a mistake of ours: its traceback is for the log
            status, number = 500, uuid.uuid4().hex[:8]
            print(printable(f"error {number}: {traceback.format_exc()}"), file=sys.stderr, flush=True)
            response = JSONResponse({"error": f"The server failed; its log says why, under {number}."}, status)
        self.counters.answered(status, time.perf_counter() - began)
        return response

    async def _answer(self, request: "starlette.requests.Request") -> Answer:
        if self.running >= self.limits.requests:
            await self._drain(request)
            raise Refused(503, f"The server has {self.limits.requests} requests already. Try again in a second.")
        self.running += 1
        stage = "uploaded"
        try:
            async with asyncio.timeout(self.limits.seconds):
                if len(request.query_params.multi_items()) > len(request.query_params):
                    raise Refused(400, "A parameter is given twice.")
                wish = answers.read_wish(request.query_params, choices=self.choices)
                body = await self._body(request)
                stage = "computed"
                loop = asyncio.get_running_loop()
                image = await loop.run_in_executor(self._pool, self._read, body, request.headers)
                kind = {answers.PROBABILITIES: PROBABILITIES, answers.BOTH: BOTH}.get(wish.answer, LABEL)
                way = (("tta", wish.tta), ("refine", wish.refine)) if wish.tta or wish.refine else None
                result = await asyncio.wrap_future(self.batcher.submit(image, kind, way))
                return await loop.run_in_executor(self._pool, self._write, wish, image, result)
        except TimeoutError:
            status = 408 if stage == "uploaded" else 504
            raise Refused(status, f"The image was not {stage} within {self.limits.seconds:g} s.") from None
        except OutOfMemory as error:
            raise Refused(413, str(error)) from None
        except UserError as error:  # of a choice that this model does not know
            raise Refused(400, str(error)) from None
        finally:
            self.running -= 1

    async def _body(self, request: "starlette.requests.Request") -> bytes:
        """The body, which is not read further than the limit."""
        largest, announced = self.limits.bytes, request.headers.get("content-length", "")
        body = bytearray()
        if not announced.isdecimal() or int(announced) <= largest:
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    break
            else:
                return bytes(body)
        raise Refused(413, f"The body has more than {largest} bytes, the most that this server takes.")

    async def _drain(self, request: "starlette.requests.Request") -> None:
        """Reads a body to no purpose: many clients look for the answer only when they have sent all of it."""
        read = 0
        try:
            async with asyncio.timeout(DRAINED):
                async for chunk in request.stream():
                    read += len(chunk)
                    if read > self.limits.bytes:
                        return
        except TimeoutError:
            return

    def _read(self, body: bytes, headers: "starlette.datastructures.Headers") -> Image:
        content = image_bytes(body, headers.get("content-type", ""))
        return read_upload(content, self.trained, self.limits, Path(self._folder.name))

    def _write(self, wish: Wish, image: Image, result: Result) -> Answer:
        empty = empty_pixels(self.trained.bands, image)  # which are of no class
        if wish.answer == answers.PROBABILITIES:
            return answers.probabilities_answer(fill_empty(result, empty, 0), wish.type)
        label, probabilities = result if wish.answer == answers.BOTH else (result, None)
        label = fill_empty(label, empty, self.trained.ignore)
        if probabilities is not None:
            return answers.both_answer(label, fill_empty(probabilities, empty, 0), self.trained)
        make = {
            answers.LABEL: answers.label_answer,
            answers.IDS: answers.ids_answer,
            answers.POLYGONS: answers.polygons_answer,
        }
        return make[wish.answer](label, self.trained)


def choosing(predictor: Predictor, options: Mapping[str, Any]) -> Callable[..., Predictor]:
    """Returns a `predictor_of` for `Service`: the model, applied in other ways; its variables stay where they are.

    Args:
      predictor: the server's.
      options: that it was made with, as `jaxseg.Predictor` takes them.
    """
    trained, nothing = (
        dataclasses.replace(predictor.trained, variables=predictor.variables),
        {"tta": "", "refine": None},
    )

    def predictor_of(**chosen: str) -> Predictor:
        changed = {name: nothing[name] if value == "none" else value for name, value in chosen.items() if value}
        return Predictor(trained, **{**options, **changed})

    return predictor_of
