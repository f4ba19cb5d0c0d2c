"""Many image files: one is read and one is written while a third is predicted."""

import errno
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from jaxseg.checks import UserError
from jaxseg.inference.batches import one_behind
from jaxseg.inference.files import DEFAULT, Opened, Outputs, Predicted, label_page, open_page, write_page
from jaxseg.inference.image_list import ImagePage
from jaxseg.inference.predict import Predictor
from jaxseg.inference.uncertainty import Ensemble

FAILURES = (UserError, OSError, UnicodeError)  # of one image; the others can be predicted
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of the disk: nothing more can be written


def predict_pages(
    predictor: Predictor | Ensemble,
    pages: Sequence[ImagePage],
    outputs: Outputs = DEFAULT,
) -> Iterator[tuple[ImagePage, list[str] | Exception]]:
    """Does what `predict_file` does for all `pages`, and yields each, in order, with what came of it.

    That is what is to be said of it, or the error that it raised; it ends with the first that says that nothing more
    can be written. A few images are in memory at a time: the next is being read, and the one before written.

    Args:
      predictor: the model, or several.
      pages: the images.
      outputs: as for `predict_file`.
    """
    stopped = threading.Event()

    def write(page: ImagePage, opened: Opened, predicted: Predicted) -> None:
        if stopped.is_set():
            raise CancelledError
        try:
            write_page(predictor.trained, page, opened, predicted, outputs)
        except OSError as error:
            if error.errno in FULL:
                stopped.set()
            raise

    def sent() -> Iterator[tuple[ImagePage, Opened | None, Future]]:
        for page, reading in one_behind((page, reader.submit(open_page, predictor.trained, page)) for page in pages):
            opened = None
            try:
                opened = reading.result()
                writing = writer.submit(write, page, opened, label_page(predictor, page, opened, outputs))
            except FAILURES as error:
                writing = Future()
                writing.set_exception(error)
            yield page, opened, writing

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        try:
            for page, opened, writing in one_behind(sent()):
                try:
                    writing.result()
                except FAILURES as error:
                    yield page, error
                    if isinstance(error, OSError) and error.errno in FULL:
                        return
                else:
                    yield page, opened.notes
        finally:  # whatever ended it: what is being written is finished, and no more is begun
            stopped.set()
            reader.shutdown(cancel_futures=True)
            writer.shutdown(cancel_futures=True)
