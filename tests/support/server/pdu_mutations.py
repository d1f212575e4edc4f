"""What a true sender says to a DICOM server, with bytes changed, cut or put in."""

import random

from pynetdicom import AE, evt

from dicom_sender import associate
from phantom_studies import make_study


def record_speech() -> list[bytes]:
    """What a sender says in one true association, PDU by PDU."""
    said: list[bytes] = []
    one = make_study(0, side=64)[0]
    ae = AE(ae_title="SCP")
    for kind in ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"):
        ae.add_supported_context(kind)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False,
        evt_handlers=[(evt.EVT_C_STORE, lambda _: 0), (evt.EVT_DATA_RECV, lambda one: said.append(bytes(one.data)))],
    )  # fmt: skip
    with associate(server.server_address[1], [(one.SOPClassUID, one.file_meta.TransferSyntaxUID)]) as association:
        association.send_c_echo()
        association.send_c_store(one)
    server.shutdown()
    return said


def mutate(draw: random.Random, spoken: list[bytes]) -> bytes:
    """Some of the PDUs, in their order or not, with bytes changed, cut or put in."""
    chosen = [bytearray(one[:20000]) for one in spoken[: draw.randint(1, len(spoken))]]
    if draw.random() < 0.2:
        draw.shuffle(chosen)
    for _ in range(draw.randint(1, 8)):
        one = draw.choice(chosen)
        at = draw.randrange(len(one)) if draw.random() < 0.5 else draw.randrange(min(len(one), 80))
        match draw.randrange(4):
            case 0:
                one[at] = draw.randrange(256)
            case 1:
                del one[at : at + draw.randint(1, 40)]
            case 2:
                one[at:at] = draw.randbytes(draw.randint(1, 40))
            case _:
                one[at : at + 4] = draw.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
        if not one:
            chosen.remove(one)
        if not chosen:
            break
    return b"".join(chosen)
