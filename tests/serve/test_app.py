"""The HTTP API: right captions, refusals that say what to do, nothing kept."""

import base64
import io
import json
import re
import tempfile
import time

import numpy as np
import pytest
from PIL import Image
from serving import png, sent

from pictell.captioner import Captioner
from pictell.serve.app import REFUSALS
from pictell.serve.guard import POLICY
from pictell.serve.schemas import (
    CAPTIONS_EXAMPLE,
    CaptionsAnswer,
    ErrorAnswer,
    Health,
    ModelsAnswer,
)


def ask(client, *pictures, **fields):
    return client.post("/v1/captions", files=sent(*pictures), data=fields)


def error_of(response) -> dict:
    return ErrorAnswer.model_validate(response.json()).error.model_dump()


class TestCaptions:
    def test_are_those_of_the_captioners(self, client, photos, trained_runs):
        answer = CaptionsAnswer.model_validate(ask(client, *photos).json())
        assert [picture.file for picture in answer.pictures] == [p.name for p in photos]
        for name in ("rnn", "attention"):
            expected = Captioner.load(trained_runs / name).caption(photos)
            for picture, caption in zip(answer.pictures, expected, strict=True):
                found = next(c for c in picture.captions or [] if c.model == name)
                assert found.text == caption.text
                assert found.log_probability == pytest.approx(caption.log_probability, abs=1e-4)
                assert [word.text for word in found.words or []] == caption.words
                assert (picture.width, picture.height) == caption.image_size

    def test_options_reach_the_search(self, client, photos, trained_runs):
        captioner = Captioner.load(trained_runs / "attention")
        for beam, max_length in ((1, 3), (4, 12)):
            response = ask(
                client, photos[0], models="attention", beam=beam, max_length=max_length
            ).json()
            expected = captioner.caption(photos[0], beam=beam, max_length=max_length)[0]
            captions = response["pictures"][0]["captions"]
            assert [c["model"] for c in captions] == ["attention"]
            assert captions[0]["text"] == expected.text
            assert captions[0]["ended"] == expected.ended

    def test_models_come_in_the_order_asked_for(self, client, photos):
        response = ask(client, photos[0], models=["attention", "rnn", "attention"]).json()
        names = [c["model"] for c in response["pictures"][0]["captions"]]
        assert names == ["attention", "rnn"]

    def test_empty_fields_mean_the_models_own_values(self, client, photos):
        plain = ask(client, photos[0]).json()["pictures"]
        empty = {"beam": "", "max_length": " ", "length_penalty": "", "models": ""}
        empty |= {"block_repeats": ""}
        assert ask(client, photos[0], **empty).json()["pictures"] == plain

    def test_detail_decides_what_is_told(self, client, photos):
        def keys(detail):
            response = ask(client, photos[0], models="attention", detail=detail).json()
            return set(response["pictures"][0]["captions"][0])

        text = {"model", "text", "log_probability", "ended"}
        assert keys("text") == text
        assert keys("words") == text | {"words"}
        assert keys("maps") == text | {"words", "kind", "seen", "grid", "maps"}

    def test_maps_are_the_attention(self, client, photos, trained_runs):
        response = ask(client, photos[0], models="attention", detail="maps").json()
        told = response["pictures"][0]["captions"][0]
        expected = Captioner.load(trained_runs / "attention").caption(photos[0])[0].attention
        scale, data = told["maps"]["scale"], base64.b64decode(told["maps"]["data"])
        shares = np.frombuffer(data, np.uint8).reshape(expected.shape) / 255
        found = shares * np.array(scale)[:, None, None]
        assert told["grid"] == list(expected.shape[1:])
        assert np.abs(found - expected).max() < 0.003

    def test_occlusion_maps_for_models_with_and_without_attention(
        self, client, photos, trained_runs
    ):
        response = ask(client, photos[0], detail="maps", occlusion="true").json()
        for told in response["pictures"][0]["captions"]:
            captioner = Captioner.load(trained_runs / told["model"])
            plain = captioner.caption(photos[0])
            expected = captioner.occlude([photos[0]], plain)[0].occlusion
            assert told["kind"] == "occlusion"
            assert told["maps"]["scale"] == pytest.approx(
                np.clip(expected, 0, None).max(axis=(1, 2)).tolist(), abs=1e-3
            )

    def test_a_preview_is_a_picture_for_browsers(self, client):
        tiff = io.BytesIO()
        Image.new("RGB", (60, 40), "blue").save(tiff, format="TIFF")
        response = ask(client, tiff.getvalue(), preview="true").json()
        head, _, data = response["pictures"][0]["preview"].partition(",")
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (60, 40)

    def test_a_bad_picture_among_good_ones_has_its_own_error(self, client, photos):
        response = ask(client, photos[0], b"no picture", photos[1])
        assert response.status_code == 200
        answer = CaptionsAnswer.model_validate(response.json())
        assert [p.error is None for p in answer.pictures] == [True, False, True]
        assert answer.pictures[1].error.code == "not_a_picture"

    def test_pictures_of_one_request_are_worked_on_together(self, client_of, photos, models):
        client = client_of(decoders=2)
        seen = []
        work = client.service.batcher.work
        client.service.batcher.work = lambda jobs: seen.append(len(jobs)) or work(jobs)
        ask(client, *photos * 4)
        assert sum(seen) == 16
        assert max(seen) > 1

    def test_nothing_is_written_to_disk(self, client, monkeypatch):
        def forbidden(*_, **__):
            raise AssertionError("a temporary file was made")

        monkeypatch.setattr(tempfile, "_TemporaryFileWrapper", forbidden)
        monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)
        noise = np.random.default_rng(0).integers(256, size=(1200, 1200, 3), dtype=np.uint8)
        large = io.BytesIO()
        Image.fromarray(noise).save(large, format="PNG")
        assert len(large.getvalue()) > 4_000_000  # four times what forms usually keep in memory
        assert ask(client, large.getvalue()).status_code == 200


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"beam": "0"}, "beam is '0'"),
            ({"beam": "many"}, "beam is 'many'"),
            ({"beam": "11"}, "less than or equal to 10"),
            ({"max_length": "51"}, "less than or equal to 50"),
            ({"length_penalty": "nan"}, "length_penalty"),
            ({"block_repeats": "-1"}, "greater than or equal to 0"),
            ({"detail": "all"}, "'text', 'words' or 'maps'"),
            ({"models": "none"}, "no model is named 'none'; there are: rnn, attention"),
            ({"url": "http://127.0.0.1/"}, "there is no field 'url'; the fields are: pictures"),
        ],
    )
    def test_of_options(self, client, fields, said):
        response = ask(client, png(), **fields)
        assert response.status_code == 422
        assert said in error_of(response)["message"]

    def test_of_a_request_without_pictures(self, client):
        response = client.post("/v1/captions", files=[("beam", (None, "1"))])
        assert response.status_code == 400
        assert "curl -F pictures=@photo.jpg" in error_of(response)["message"]

    def test_of_json(self, client):
        response = client.post("/v1/captions", json={"url": "http://127.0.0.1/a.jpg"})
        assert (response.status_code, error_of(response)["code"]) == (415, "not_multipart")

    def test_of_another_field(self, client):
        response = client.post("/v1/captions", files=[("file", ("a.png", png()))])
        assert response.status_code == 400
        assert "'file'; send pictures in 'pictures'" in error_of(response)["message"]

    def test_of_too_many_pictures(self, client_of):
        response = ask(client_of(max_pictures=2), png(), png(), png())
        assert (response.status_code, error_of(response)["code"]) == (413, "too_many_pictures")

    def test_of_a_large_file(self, client_of):
        response = ask(client_of(max_megabytes=0.1), png() + bytes(100_000))
        assert response.status_code == 413
        assert "0.1 MB are more than the 0.1 MB" in error_of(response)["message"]

    def test_of_a_large_request_before_it_is_read(self, client_of):
        client = client_of(max_megabytes=0.1)
        response = ask(client, *[png() + bytes(99_000)] * 9)
        assert (response.status_code, error_of(response)["code"]) == (413, "request_too_large")
        assert client.service.budget.used == 0

    def test_of_too_many_pixels(self, client_of):
        response = ask(client_of(max_megapixels=0.001), png())
        assert (response.status_code, error_of(response)["code"]) == (413, "too_many_pixels")

    def test_of_occlusion_for_several(self, client):
        response = ask(client, png(), png(), occlusion="true")
        assert (response.status_code, error_of(response)["code"]) == (422, "one_at_a_time")

    def test_of_paths_that_are_not_there(self, client):
        for path in ("/page/../../../etc/passwd", "/docs", "/page/index.html", "/v2"):
            response = client.get(path)
            assert response.status_code == 404
            assert "see /openapi.json" in error_of(response)["message"]

    def test_of_methods(self, client):
        response = client.get("/v1/captions")
        assert response.status_code == 405
        assert error_of(response)["code"] == "bad_request"

    def test_a_defect_is_told_without_its_inside(self, client_of):
        client = client_of()

        def broken(jobs):
            raise ZeroDivisionError("the secret")

        client.service.batcher.work = broken
        response = ask(client, png())
        assert response.status_code == 500
        assert "secret" not in response.text
        assert client.get("/healthz").json()["status"] == "ok"
        assert client.service.pending == 0


class TestQueue:
    def test_a_full_queue_answers_503_and_says_when_to_come_again(self, client_of):
        client = client_of(queue=16)
        client.service.pending = 16
        response = ask(client, png())
        assert (response.status_code, error_of(response)["code"]) == (503, "busy")
        assert 1 <= int(response.headers["Retry-After"]) <= 30
        client.service.pending = 0
        assert ask(client, png()).status_code == 200

    def test_a_request_that_does_not_fit_whole_is_refused_whole(self, client_of):
        client = client_of(queue=16)
        client.service.pending = 14
        assert ask(client, png(), png(), png()).status_code == 503
        assert ask(client, png(), png()).status_code == 200
        assert client.service.pending == 14

    def test_the_wait_follows_the_rate(self, client_of):
        client = client_of(queue=16)
        client.service.pending, client.service.batcher.rate = 16, 2.0
        assert ask(client, png()).headers["Retry-After"] == "8"

    def test_too_many_bytes_at_once_answer_503(self, client_of):
        client = client_of()
        client.service.budget.used = client.service.limits.bytes_in_flight
        response = ask(client, png())
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")

    def test_a_stopping_server_takes_nothing(self, client_of):
        client = client_of()
        client.service.stopping = True
        assert error_of(ask(client, png()))["code"] == "stopping"
        assert client.get("/healthz").status_code == 503

    def test_a_timeout_is_a_503_and_frees_the_places(self, client_of):
        client = client_of(timeout=0.2)
        work = client.service.batcher.work
        client.service.batcher.work = lambda jobs: time.sleep(0.6) or work(jobs)
        response = ask(client, png())
        assert (response.status_code, error_of(response)["code"]) == (503, "busy")
        assert "Retry-After" in response.headers
        assert client.service.pending == 0


class TestStatus:
    def test_models(self, client, trained_runs):
        answer = ModelsAnswer.model_validate(client.get("/v1/models").json())
        assert [m.name for m in answer.models] == ["rnn", "attention"]
        assert [m.attention for m in answer.models] == [False, True]
        assert answer.models[0].encoder == "test_resnet"
        assert answer.models[0].search.max_length == 12
        assert answer.limits.pixels == 50_000_000

    def test_health(self, client):
        health = Health.model_validate(client.get("/healthz").json())
        assert (health.status, health.pending, health.queue) == ("ok", 0, 64)

    def test_metrics_count(self, client_of):
        client = client_of()
        ask(client, png())
        ask(client, b"text")
        client.get("/made-up-path")
        text = client.get("/metrics").text
        assert 'pictell_requests_total{path="/v1/captions",status="200"} 1.0' in text
        assert 'pictell_requests_total{path="/v1/captions",status="415"} 1.0' in text
        assert 'pictell_requests_total{path="other",status="404"} 1.0' in text
        assert 'pictell_pictures_total{outcome="captioned"} 1.0' in text
        assert 'pictell_pictures_total{outcome="not_a_picture"} 1.0' in text
        assert "pictell_batch_pictures_count 1.0" in text
        assert "pictell_pending_pictures 0.0" in text

    def test_openapi_describes_what_is_sent_and_answered(self, client):
        page = client.get("/openapi.json").json()
        operation = page["paths"]["/v1/captions"]["post"]
        form = operation["requestBody"]["content"]["multipart/form-data"]
        assert set(form["schema"]["properties"]) == {
            *("pictures", "models", "beam", "max_length", "length_penalty"),
            *("block_repeats", "detail", "occlusion", "preview"),
        }
        assert form["examples"]
        assert set(operation["responses"]) == {"200", *map(str, REFUSALS)}
        for response in operation["responses"].values():
            assert response["content"]["application/json"]["example"]
        CaptionsAnswer.model_validate(CAPTIONS_EXAMPLE)
        assert "$defs" not in json.dumps(form)  # nothing that points outside the document


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/page/page.js", "/v1/models", "/nothing", "/metrics"])
    def test_every_answer_bears_the_policy(self, client, path):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers

    def test_the_policy_allows_nothing_inline_and_no_other_host(self):
        assert "default-src 'none'" in POLICY
        assert not re.search(r"unsafe|\*|https?:", POLICY)

    def test_the_page_keeps_its_own_policy(self, client):
        page = client.get("/").text
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page)
        for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
            assert client.get(path).status_code == 200, path

    def test_the_pages_files_are_known_again(self, client):
        first = client.get("/page/page.css")
        again = client.get("/page/page.css", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_pages_of_other_sites_may_not_ask(self, client):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
        response = client.post("/v1/captions", files=sent(png()), headers=headers)
        assert (response.status_code, error_of(response)["code"]) == (403, "cross_site")
        headers["Sec-Fetch-Mode"] = "navigate"  # a link to the page is no harm
        assert client.get("/", headers=headers).status_code == 200
        # A form of another site navigates too, but to the captions with POST.
        response = client.post("/v1/captions", files=sent(png()), headers=headers)
        assert response.status_code == 403
