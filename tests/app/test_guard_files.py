"""In front of Gradio: no file but those that were uploaded, by no spelling, from here or elsewhere."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from showtell.app import bodies
from showtell.app.limits import Limits
from tests.app import wire
from tests.app.wire import ask, post

pytest.importorskip("gradio")

LIMITS = Limits(upload_bytes=100_000, json_bytes=20_000)
SECRET = b"the canary sings"
FIRST = "pictures are uploaded first: POST them to /gradio_api/upload"
META = {"meta": {"_type": "gradio.FileData"}}
fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def png(**options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (7, 5), "red").save(file, "PNG", **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with canaries in it, text and picture, and beside them the folder of uploads, with links that lead out."""
    place = tmp_path_factory.mktemp("place")
    (place / "canary.txt").write_bytes(SECRET)
    (place / "canary.png").write_bytes(png())
    (place / "uploads").mkdir()
    (place / "uploads-too").mkdir()
    (place / "uploads-too" / "canary.png").write_bytes(png())
    (place / "uploads" / "link.png").symlink_to(place / "canary.png")
    (place / "uploads" / "up").symlink_to(place)
    return place


@pytest.fixture(scope="module")
def studio(place):
    with wire.serve(place / "uploads", LIMITS) as served:
        yield served


@pytest.fixture(scope="module")
def picture(studio):
    """The path of an uploaded picture."""
    return studio.upload("a red “one” 50%25 ☃.png", png())


@pytest.fixture(scope="module", autouse=True)
def elsewhere():
    """The port of a server that nobody asks."""
    with wire.never_asked(SECRET) as port:
        yield port


# Files that a request names.


def spelled(studio, place, elsewhere, picture) -> dict[str, dict]:
    """Files that are not uploads, by many spellings."""
    uploads, away = studio.uploads, f"http://127.0.0.1:{elsewhere}/x.png"
    folder, own = str(uploads), f"http://127.0.0.1:{studio.port}/gradio_api/file="
    paths = {
        "plain": f"{place}/canary.png", "up": f"{folder}/../canary.png", "twice": f"{folder}/x/../../canary.png",
        "link": f"{folder}/link.png", "folder link": f"{folder}/up/canary.png", "prefix": f"{folder}-too/canary.png",
        "file://": f"file://{place}/canary.png", "slashes": f"//{place}/canary.png", "the folder": folder,
        "relative": os.path.relpath(place / "canary.png"), "http": away, "HTTP": away.replace("http", "HTTP"), "dot": ".",
        "data": "data:image/png;base64,AAAA", "nul": f"{folder}/a\0.png", "newline": f"{picture}\n", "home": "~/x.png",
        "backslash": f"{folder}\\..\\canary.png", "proc": "/proc/self/environ", "surrogate": f"{folder}/\ud800.png",
        "file=": f"/gradio_api/file={picture}", "own": own + picture, "roundabout": f"{folder}/x/../x",
        "empty": "",
    }  # fmt: skip
    here, there, file = f"127.0.0.1:{studio.port}", f"127.0.0.1:{elsewhere}", f"/gradio_api/file={picture}"
    urls = {
        "away": away, "https": "https://example.org/x.png", "no scheme": f"//{there}{file}", "user": f"http://{here}@{there}{file}",
        "HTTP": away.replace("http", "HTTP"), "port": f"http://{there}{file}", "backslash": f"http://{here}\\@{there}{file}",
        "data": "data:image/png;base64,iVBORw0KGgo=", "blob": "blob:x", "ftp": "ftp://x/y", "file": f"file://{picture}",
        "own canary": f"{own}{place}/canary.png", "own up": f"{own}{folder}/%2e%2e/canary.png", "own link": f"{own}{folder}/up/x",
        "own proxy": f"http://{here}/gradio_api/proxy={away}", "own away": own + away, "own query": f"{own}{picture}?x={away}",
        "space": f" {away}", "bare": picture,
    }  # fmt: skip
    found = {f"path {name}": {"path": path} for name, path in paths.items() if name != "empty"}
    found |= {f"path {name} with meta": {"path": path, **META, "orig_name": "a.png"} for name, path in paths.items()}
    found |= {f"url {name}": {"path": picture, "url": url, **META} for name, url in urls.items()}
    found |= {f"url {name} alone": {"path": None, "url": url} for name, url in urls.items()}
    found |= {f"path {value!r}": {"path": value} for value in (1, ["x"], {"path": "x"}, True)}
    return found | {
        "other meta": {"path": f"{place}/canary.png", "meta": {"_type": "x"}},
        "no meta": {"path": f"{place}/canary.png", "meta": 1},
    }


def test_no_file_but_an_upload_can_be_named(studio, place, elsewhere, picture):
    studio.seen.clear()
    for name, value in spelled(studio, place, elsewhere, picture).items():
        for wrapped in (value, [value], {"image": value, "caption": None}, {"background": value, "layers": [value]}):
            answer = studio.go(wrapped)
            assert (answer.status, answer.line) == (400, FIRST), name
    for path in (
        "/gradio_api/queue/join",
        "/gradio_api/call/go",
        "/gradio_api/call/v2/go",
        "/gradio_api/run/go/",
        "/gradio_api/component_server",
    ):
        assert studio.go({"path": f"{place}/canary.png", **META}, path).line == FIRST
        assert post(studio.port, path, {"data": [], "event_data": {"value": {"url": "http://x/"}}}).line == FIRST
    assert not studio.seen


@pytest.mark.parametrize("code", ["utf-16", "utf-32", "utf-8-sig", "utf-16-le"])
@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", "application/x+json"]
)
def test_another_code_changes_nothing(studio, place, code, kind):
    body = json.dumps({"data": [{"path": f"{place}/canary.png"}]}).encode(code)
    answer = ask(studio.port, "/gradio_api/run/go", method="POST", headers={"Content-Type": kind}, body=body)
    assert answer.status == 400 and SECRET not in answer.body


def test_uploads_can_be_named(studio, picture):
    own = f"/gradio_api/file={quote(picture)}"
    for url in (None, "", own, f"http://127.0.0.1:{studio.port}{own}", f"https://127.0.0.1:{studio.port}{own}"):
        answer = studio.go(
            {"path": picture, "url": url, "orig_name": "a.png", "size": 3, "mime_type": "image/png", **META}
        )
        assert answer.status == 200 and json.loads(answer.body)["data"] == [picture]
    assert studio.go(None).status == 200
    assert studio.go({"path": None, "url": None}).status == 500  # Gradio's answer: the guard has let it pass


pieces = st.sampled_from(
    ["..", ".", "", "%2e%2e", "%252e%252e", "..%2f", "..\\", "%5c", "canary.png", "canary.txt", "link.png", "up", "uploads",
     "%00", "\0", "~", "etc", "passwd", "proc", "self", "cwd", "%c0%ae", "x", " ", ";", "\n", "a:"]
)  # fmt: skip
spelling = st.tuples(
    st.sampled_from(["{place}", "{place}/uploads", "", "/", "//", "file://", "{place}/uploads/up", "http:", "."]),
    st.lists(pieces, max_size=7),
)


def path_of(place: Path, made: tuple[str, list[str]]) -> str:
    return "/".join([made[0].format(place=place), *made[1]])


@given(spelling)
@fuzz
def test_no_spelling_of_a_path_leads_out(studio, place, made):
    path, uploads = path_of(place, made), studio.uploads.resolve()
    if bodies.inside(path, studio.uploads):
        assert Path(path).resolve().is_relative_to(uploads) and Path(path).resolve() != uploads
    studio.seen.clear()
    studio.go({"path": path})
    assert all(Path(seen).resolve().is_relative_to(uploads) for seen in studio.seen)


@given(
    st.lists(
        st.sampled_from(
            [
                "http://",
                "https://",
                "a:1",
                "b",
                "/",
                "\\",
                "@",
                "//",
                ":",
                "?",
                "#",
                "%2e",
                "..",
                "/gradio_api/file=",
                "/u/x",
            ]
        )
    )
)
@example(["http://", "a:1", "/gradio_api/file=", "/u/x"])
def test_no_spelling_of_an_address_is_another_servers(made):
    url = "".join(made)
    if bodies.own(url, {"a:1"}, Path("/u")):
        parts = urlsplit(url)
        assert parts.netloc in ("", "a:1") and parts.path.startswith("/gradio_api/file=/u/") and url == parts.geturl()


# Files that are had back.


def test_an_upload_is_had_back(studio, picture):
    answer = ask(studio.port, f"/gradio_api/file={quote(picture)}", headers={"Range": "bytes=0-3", "Cookie": "a=b"})
    assert answer.status == 200 and answer.body == png() and "cookie" not in answer.headers
    assert answer.headers["content-security-policy"] == [
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    ]
    assert answer.headers["cache-control"] == ["private"] and answer.headers["x-content-type-options"] == ["nosniff"]
    assert answer.headers["content-disposition"][0].startswith("inline")


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.js", "x.xml"])
def test_what_could_run_is_saved_not_shown(studio, name):
    answer = ask(studio.port, f"/gradio_api/file={studio.upload(name, b'<script>alert(1)</script>')}")
    assert answer.headers["content-disposition"][0].startswith("attachment")
    assert answer.headers["content-type"] == ["application/octet-stream"]


def test_no_file_but_an_upload_is_had_back(studio, place, elsewhere, picture):
    for name, value in spelled(studio, place, elsewhere, picture).items():
        for part in filter(
            lambda text: isinstance(text, str) and text and text != picture, (value["path"], value.get("url"))
        ):
            for path in {quote(part, errors="surrogatepass"), quote(part, safe="", errors="surrogatepass")}:
                answer = ask(studio.port, f"/gradio_api/file={path}")
                assert answer.status in (403, 404) and png() not in answer.body, (name, path)


@given(spelling, st.integers(0, 2))
@fuzz
def test_no_spelling_of_an_address_leads_out(studio, place, made, times):
    path = path_of(place, made)
    for _ in range(times):
        path = quote(path, safe="")
    answer = ask(
        studio.port,
        "/gradio_api/file=" + "".join(letter if " " < letter < "\x7f" else quote(letter) for letter in path),
    )
    assert answer.status in (403, 404) and SECRET not in answer.body and png() not in answer.body
