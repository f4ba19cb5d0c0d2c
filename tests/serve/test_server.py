"""The server, through HTTP: what it answers, what it refuses, and that it loses nothing."""

import contextlib
import dataclasses
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import threading
import time
import tracemalloc
import zlib
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference import Predictor
from jaxseg.serve import Limits, Service, serve
from jaxseg.serve.app import check_installed
from jaxseg.serve.load import measure
from jaxseg.serve.server import _listen
from jaxseg.serve.service import choosing
from jaxseg.serve.uploads import image_bytes
from jaxseg.trained import TrainedModel


class Brightest:
    """The class of a pixel is its brightest channel."""

    num_classes = 3

    def apply(self, variables, images, *, train):
        return {"logits": images * variables["gain"]}


COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
TRAINED = TrainedModel(
    Brightest(), {"gain": np.float32(1)}, tuple("rgb"), COLORS, 255, Preprocessing((0.0,) * 3, (1.0,) * 3)
)
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


class Slow(Predictor):
    """Takes its time."""

    seconds = 0.3

    def predict_batch(self, images, *, batch_size=8):
        time.sleep(self.seconds)
        return super().predict_batch(images, batch_size=batch_size)


@contextlib.contextmanager
def running(predictor, page=False, **options):
    """Yields the address of a server in a thread, which ends with the block."""
    addresses, stop, began = [], threading.Event(), threading.Event()

    def started(address):
        addresses.append(address)
        began.set()

    service = Service(predictor, **options)
    thread = threading.Thread(target=lambda: serve(service, port=0, page=page, stop=stop, started=started))
    thread.start()
    assert began.wait(10)
    try:
        yield addresses[0]
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def address():
    limits = Limits(bytes=20_000, pixels=2_000, seconds=2)
    with running(Predictor(TRAINED), limits=limits, batch=4) as address:
        yield address


def ask(address, method="POST", path="/predict", body=None, headers=None):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def declared(width, height):
    """A PNG that says that it is larger than it is."""
    data = bytearray(png())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def png(pixels=PIXELS, form="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def test_a_label_map_is_the_predictors_in_the_models_colors(address):
    status, headers, content = ask(address, body=png())
    assert (status, headers["content-type"]) == (200, "image/png")
    label = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(np.asarray(label), Predictor(TRAINED)(PIXELS))
    np.testing.assert_array_equal(np.asarray(label.convert("RGB")), np.array(COLORS)[PIXELS.argmax(-1)])


def test_forms_and_other_formats_are_read_too(address):
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + png() + b"\r\n--x--\r\n"
    form = ask(address, body=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    tiff = ask(address, body=png(form="TIFF"))
    array = io.BytesIO()
    np.save(array, PIXELS)
    assert form[0] == tiff[0] == 200
    assert form[2] == tiff[2] == ask(address, body=array.getvalue())[2] == ask(address, body=png())[2]


def test_a_request_may_choose_where_the_server_lets_it():
    predictor = Predictor(TRAINED, tta="flip")
    with running(predictor, predictor_of=choosing(predictor, {"tta": "flip"})) as address:
        for query, options in {
            "": {"tta": "flip"},
            "tta=none": {},
            "tta=flip,0.75,1.25": {"tta": "flip,0.75,1.25"},
            "tta=none&refine=guided": {"refine": "guided"},
        }.items():
            status, _, content = ask(address, path=f"/predict?answer=ids_and_probabilities&{query}", body=png())
            assert status == 200, content
            label, p = Predictor(TRAINED, **options).label_and_probabilities(PIXELS)
            files = io.BytesIO(content)
            np.testing.assert_array_equal(np.load(files), label)
            np.testing.assert_array_equal(np.load(files), p)
        status, _, content = ask(address, path="/predict?tta=rotate", body=png())
        assert status == 400 and b"one of none, flip, d4" in content


def test_numbers_and_polygons_come_when_they_are_asked_for(address):
    expected = Predictor(TRAINED).probabilities(PIXELS)
    for kind, error in {"float32": 0, "float16": 1e-3, "uint8": 0.502 / 255}.items():
        _, _, content = ask(address, path=f"/predict?answer=probabilities&type={kind}", body=png())
        found = np.load(io.BytesIO(content))
        assert found.dtype == kind
        np.testing.assert_allclose(found / (255 if kind == "uint8" else 1), expected, atol=error)
    both = io.BytesIO(ask(address, path="/predict?answer=ids_and_probabilities", body=png())[2])
    np.testing.assert_array_equal(np.load(both), Predictor(TRAINED)(PIXELS))
    np.testing.assert_array_equal(np.load(both), np.rint(255 * expected))
    ids = np.load(io.BytesIO(ask(address, path="/predict?answer=ids", body=png())[2]))
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, Predictor(TRAINED)(PIXELS))
    flat = np.zeros((8, 8, 3), np.uint8)
    flat[:, :5, 1] = 200
    flat[:, 5:, 2] = 200
    document = json.loads(ask(address, path="/predict?answer=polygons", body=png(flat))[2])
    areas = {f["properties"]["class"]: f["geometry"]["coordinates"][0] for f in document["features"]}
    assert sorted(areas) == ["b", "g"] and max(x for x, _ in areas["g"]) == 5


@pytest.mark.parametrize("ignore", [255, 300])  # which labels of 8 bits do not hold
def test_what_holds_nothing_is_of_no_class(ignore):
    seen = Preprocessing((0.0,) * 3, (1.0,) * 3, Bands(nodata=0))
    trained = dataclasses.replace(TRAINED, preprocessing=seen, ignore=ignore)
    pixels = PIXELS | 1
    pixels[:, :10] = 0
    with running(Predictor(trained)) as address:
        both = io.BytesIO(ask(address, path="/predict?answer=ids_and_probabilities", body=png(pixels))[2])
        label, small = np.load(both), np.load(both)
        p = np.load(io.BytesIO(ask(address, path="/predict?answer=probabilities", body=png(pixels))[2]))
    assert (label[:, :10] == ignore).all() and (label[:, 10:] < 3).all() and small.dtype == np.uint8
    for found, whole in ((small, 255), (p, 1)):
        assert not found[:, :10].any()
        np.testing.assert_allclose(found[:, 10:].sum(-1), whole, rtol=0.01)


def test_what_the_model_is_can_be_asked(address):
    assert ask(address, "GET", "/health")[2] == b'{"status":"ok"}'
    found = json.loads(ask(address, "GET", "/classes")[2])
    assert (found["classes"], found["palette"][2], found["bands"]) == (
        list("rgb"),
        [0, 0, 255],
        ["red", "green", "blue"],
    )


@pytest.mark.parametrize(
    "path,body,headers,status,said",
    [
        ("/predict", b"", {}, 400, "The body is empty"),
        ("/predict", b"no image\x1b[2J", {}, 400, "The image does not read"),
        ("/predict", png()[:200], {}, 400, "damaged or cut short. Send a whole image, as PNG"),
        ("/predict", png(np.zeros((2000, 2, 3), np.uint8)), {}, 413, "2x2000 (width x height), 4000 pixels"),
        ("/predict", declared(100_000, 100_000), {}, 413, "has more pixels than are read"),
        ("/predict?answer=" + 3000 * "x", png(), {}, 400, "xxx..."),
        ("/predict", b"0" * 20_001, {}, 413, "more than 20000 bytes"),
        ("/predict", png(), {"Content-Type": "multipart/form-data; boundary=x"}, 400, 'no field "image"'),
        ("/predict", png(), {"Content-Type": "multipart/form-data"}, 400, "has no boundary"),
        (
            "/predict?answer=lable",
            png(),
            {},
            400,
            "one of label, ids, polygons, probabilities, ids_and_probabilities, got 'lable'",
        ),
        ("/predict?size=3", png(), {}, 400, "Unknown parameter 'size'"),
        ("/predict?tta=flip", png(), {}, 400, "Unknown parameter 'tta'"),
        ("/predict?answer=ids&answer=label", png(), {}, 400, "given twice"),
        ("/predict?answer=ids_and_probabilities&type=float32", png(), {}, 400, "are of the type uint8"),
        ("/predicted", png(), {}, 404, "This server knows POST /predict"),
    ],
    ids=[
        "empty",
        "text",
        "cut",
        "large",
        "bomb",
        "echo",
        "long",
        "form",
        "boundary",
        "answer",
        "parameter",
        "choice",
        "twice",
        "type",
        "path",
    ],
)
def test_bad_requests_get_a_sentence(address, path, body, headers, status, said):
    found, _, content = ask(address, path=path, body=body, headers=headers)
    error = json.loads(content)["error"]
    assert found == status and said in error and len(error) < 400
    assert "counterpart" not in error, "an upload has no label beside it"
    assert "Traceback" not in error and "/tmp" not in error and "\x1b" not in error


def test_images_of_other_bands_are_refused(address):
    array = io.BytesIO()
    np.save(array, np.zeros((4, 4, 5), np.uint16))
    status, _, content = ask(address, body=array.getvalue())
    assert status == 400 and "uint16" in json.loads(content)["error"]


def test_a_body_that_does_not_come_ends_in_time(address):
    with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        connection.settimeout(10)
        assert b" 408 " in connection.recv(1000)


HALF = b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Half: "


@pytest.mark.parametrize("before, sent", [(0, b""), (0, HALF), (1, HALF)], ids=["silent", "first", "later"])
def test_a_head_that_does_not_come_ends_in_time(address, before, sent):
    """Of the first request of a connection, and of a later one; a connection that asked in time is kept meanwhile."""
    first, other = (http.client.HTTPConnection(urlsplit(address).netloc, timeout=5) for _ in range(2))

    def status(connection):
        connection.request("GET", "/classes")
        response = connection.getresponse()
        response.read()
        return response.status

    with contextlib.closing(first), contextlib.closing(other):
        first.connect()
        assert not before or status(first) == 200
        began = time.monotonic()
        first.sock.sendall(sent)
        assert status(other) == 200
        kept = other.sock
        assert first.sock.recv(1000) == b""
        assert 1.5 < time.monotonic() - began < 4
        assert status(other) == 200 and other.sock is kept


def test_a_mistake_of_ours_is_told_to_the_log_alone(capfd):
    class Broken(Predictor):
        def predict_batch(self, images, *, batch_size=8):
            raise KeyError("a secret")

    with running(Broken(TRAINED)) as address:
        status, _, content = ask(address, body=png())
        ask(address, "GET", "/%0aERROR%1b[2J")
    error = json.loads(content)["error"]
    logged = capfd.readouterr().err
    assert status == 500 and "secret" not in error
    number = error.split()[-1].rstrip(".")
    assert f"error {number}: Traceback" in logged and "a secret" in logged
    assert "GET /\\nERROR\\x1b[2J 404" in logged and "\x1b" not in logged


def test_more_requests_than_it_takes_are_told_so_and_late_ones_too():
    predictor = Slow(TRAINED)
    with running(predictor, limits=Limits(requests=2, seconds=0.2), batch=1) as address:
        found = measure(address, [png()], requests=6, clients=6)
    assert set(found["statuses"]) == {503, 504}
    assert found["statuses"][504] >= 2


def test_asked_to_stop_it_answers_what_it_has_accepted():
    """In this thread, which is the one that gets signals."""
    predictor, found, before = Slow(TRAINED), {}, signal.getsignal(signal.SIGTERM)
    service = Service(predictor, batch=2)

    def started(address):
        def clients():
            asking = threading.Thread(target=lambda: found.update(measure(address, [png()], requests=7, clients=7)))
            asking.start()
            while service.running < 7:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            asking.join(10)

        threads.append(threading.Thread(target=clients))
        threads[0].start()

    threads = []
    serve(service, port=0, log=False, started=started)
    threads[0].join(10)
    assert found["statuses"] == {200: 7}
    assert signal.getsignal(signal.SIGTERM) is before


def test_requests_are_batched_and_counted(address):
    found = measure(address, [png(), png(PIXELS[:9])], requests=40, clients=8)
    assert found["statuses"] == {200: 40}
    text = ask(address, "GET", "/metrics")[2].decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    images, batches = float(values["jaxseg_batch_images_sum"]), float(values["jaxseg_batch_images_count"])
    assert images >= 40 and batches < images
    assert float(values['jaxseg_requests_total{status="200"}']) >= 40
    assert float(values["jaxseg_requests_running"]) == float(values["jaxseg_images_waiting"]) == 0
    assert float(values["process_resident_memory_bytes"]) > 1e7


def test_answers_do_not_wait_for_the_client_to_have_read_their_beginning():
    """asyncio turns Nagle's algorithm off only for sockets that are of TCP by name: it cost 40 ms a request."""
    with _listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_missing_packages_are_told_with_what_installs_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs starlette and uvicorn.*pip install 'jaxseg\[serve\]'"):
        check_installed()


def test_an_address_that_is_taken_is_told():
    with _listen("127.0.0.1", 0) as listening, pytest.raises(UserError, match="can't be listened at"):
        _listen("127.0.0.1", listening.getsockname()[1])


def test_the_demo_is_one_page_that_asks_nobody_else():
    with running(Predictor(TRAINED), page=True) as address:
        status, headers, content = ask(address, "GET", "/")
    page = content.decode()
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert not re.search(r"(src|href)=|https?://|@import", page), "the page asks for something outside of it"
    used = set(re.findall(r'\$\("(\w+)"\)', page))
    assert used == set(re.findall(r'\bid="(\w+)"', page)), "elements that the script uses, and those that there are"


def test_a_form_of_many_parts_is_taken_apart_one_by_one():
    body = b"--x\r\nab\r\n" * 200_000 + b"--x\r\n" + b'Content-Disposition: form-data; name="image"\r\n\r\nPNG\r\n--x--'
    tracemalloc.start()
    try:
        assert image_bytes(body, "multipart/form-data; boundary=x") == b"PNG"
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body)
    finally:
        tracemalloc.stop()
