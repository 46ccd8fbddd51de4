"""A server on this machine that answers as VizieR does, well or badly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import numpy as np
from catalogue_files import star_positions

Behaviour = Literal[
    "good", "empty", "cut off", "page", "error", "overflow", "slow", "busy", "refused", "huge"
]
_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
    "<DESCRIPTION>\n VizieR Astronomical Server\n</DESCRIPTION>\n"
    '<INFO ID="VERSION" name="votable-version" value="1.99+ (14-Oct-2013)"/>\n'
)
#: The columns of 2MASS as VizieR describes them (name, UCD, type, unit).
_FIELDS = (
    ("RAJ2000", "pos.eq.ra;meta.main", 'datatype="double"', "deg"),
    ("DEJ2000", "pos.eq.dec;meta.main", 'datatype="double"', "deg"),
    ("errMaj", "phys.angSize.smajAxis;pos.errorEllipse;pos.eq", 'datatype="float"', "arcsec"),
    ("errMin", "phys.angSize.sminAxis;pos.errorEllipse;pos.eq", 'datatype="float"', "arcsec"),
    ("Jmag", "phot.mag;em.IR.J", 'datatype="float"', "mag"),
    ("e_Jmag", "stat.error;phot.mag;em.IR.J", 'datatype="float"', "mag"),
    ("Hmag", "phot.mag;em.IR.H", 'datatype="float"', "mag"),
    ("e_Hmag", "stat.error;phot.mag;em.IR.H", 'datatype="float"', "mag"),
    ("Kmag", "phot.mag;em.IR.K", 'datatype="float"', "mag"),
    ("e_Kmag", "stat.error;phot.mag;em.IR.K", 'datatype="float"', "mag"),
    ("Qflg", "meta.code.qual", 'datatype="char" arraysize="3"', ""),
    ("Cflg", "meta.code", 'datatype="char" arraysize="3"', ""),
    ("JD", "time.epoch", 'datatype="double"', "d"),
)


def answer_of(n: int = 30) -> bytes:
    """Return an answer with stars of 2MASS; the last one has no error in H."""
    ra, dec = star_positions(n, seed=3)
    fields = "".join(
        f'<FIELD name="{name}" ucd="{ucd}" ref="H_2" {kind}' + (f' unit="{unit}"' if unit else "") + "/>\n"
        for name, ucd, kind, unit in _FIELDS
    )
    rows = "".join(
        f"<TR><TD>{a:.6f}</TD><TD>{d:.6f}</TD><TD>0.08</TD><TD>0.06</TD><TD>{j:.3f}</TD><TD>0.024</TD>"
        f"<TD>{j - 0.5:.3f}</TD><TD>{'' if i == n - 1 else 0.03}</TD><TD>{j - 0.7:.3f}</TD><TD>0.03</TD>"
        f"<TD>{'AUA' if i == n - 1 else 'AAA'}</TD><TD>000</TD><TD>2451109.5</TD></TR>\n"
        for i, (a, d, j) in enumerate(zip(ra, dec, np.linspace(11, 16, n), strict=True))
    )
    return (
        f'{_HEAD}<RESOURCE ID="yCat_2246" name="II/246"><COOSYS ID="H_2" system="ICRS" equinox="J2000"/>\n'
        f'<TABLE ID="II_246_out" name="II/246/out">\n{fields}<DATA><TABLEDATA>\n{rows}</TABLEDATA></DATA>\n'
        "</TABLE></RESOURCE></VOTABLE>\n"
    ).encode()


@dataclass
class VizierStub:
    """The server's address, its behaviour, and the questions that it was asked."""

    address: str
    behaviour: Behaviour = "good"
    questions: list[str] = field(default_factory=list)
    end: threading.Event = field(default_factory=threading.Event)

    def answer(self) -> tuple[int, bytes]:
        whole = answer_of()
        info = '<RESOURCE type="results"><INFO name="QUERY_STATUS" value="{}">{}</INFO></RESOURCE></VOTABLE>'
        return {
            "good": (200, whole),
            "slow": (200, whole),
            "huge": (200, whole * 400),
            "empty": (200, f'{_HEAD}<INFO name="matches" value="0"/></VOTABLE>'.encode()),
            "cut off": (200, whole[: len(whole) // 2]),
            "page": (200, b"<html><body>The service is being maintained</body></html>"),
            "error": (200, (_HEAD + info.format("ERROR", "no such table")).encode()),
            "overflow": (200, (_HEAD + info.format("OVERFLOW", "")).encode()),
            "busy": (503, b"busy"),
            "refused": (400, b"bad request"),
        }[self.behaviour]


@contextmanager
def vizier_stub() -> Iterator[VizierStub]:
    """Yield a server that answers questions to VizieR's path, with stars around the simulated field."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            stub.questions.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, content = stub.answer() if self.path == "/viz-bin/votable" else (404, b"")
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            half = len(content) // 2
            self.wfile.write(content[:half])
            if stub.behaviour == "slow":
                self.wfile.flush()
                stub.end.wait()
            try:
                self.wfile.write(content[half:])
            except OSError:
                self.close_connection = True  # the client has given up

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = VizierStub(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.end.set()
        server.shutdown()
        server.server_close()
        thread.join()
