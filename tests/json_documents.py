"""JSON documents on which two readers might not agree: tricky ones, and changed ones."""

import json
import struct
from random import Random

from safetensors_files import header_text, small_networks

NUMBERS = """0 -0 1 -1 10 -10 01 -01 00 -00 +1 - -- 1. .1 -.1 1.0 -1.5 0.0 -0.0 0e0 0E0 1e5 1E5 1e+5 1e-5 1e 1e+ 1e- 1.e5
1.5e 1.5e+ 1e5.5 1e1e1 0x10 0b1 1_000 1,000 ١ ½ 1f 1L 9223372036854775807 9223372036854775808 -9223372036854775808
-9223372036854775809 18446744073709551615 18446744073709551616 123456789012345678901234567890 1e308 1.7976931348623157e308
1.7976931348623158e308 1.7976931348623159e308 1e309 -1e309 1e400 1e99999999999999999999 -1e99999999999999999999
1e-99999999999999999999 0e99999999999999999999 0.0e-99999999999999999999 2.2250738585072014e-308 2.2250738585072011e-308
2.225073858507201e-308 4.9406564584124654e-324 2.4703282292062328e-324 2.4703282292062327e-324 5e-324 3e-324 2e-324 1e-400
-1e-400 9007199254740993 9007199254740993.0 9007199254740992.999999999999999 0.1 0.2 0.30000000000000004 1e22 1e23
1e9223372036854775807 10e9223372036854775807 0.1e-9223372036854775808 1e-9223372036854775808 8.41e21 3.4e38 3.41e38 1e-45 1.0000000000000001110223024625156540423631668090820312500
1.00000000000000011102230246251565404236316680908203125001 179769313486231580793e289 NaN nan -NaN Infinity -Infinity
+Infinity Inf inf -I infinity NaN1 true false null True False None nul nulll tru fals truefalse""".split()  # noqa: SIM905
NUMBERS += [
    "1" * 400,
    "-" + "1" * 4300,
    "1" * 4301,
    "0." + "0" * 400 + "1",
    "0." + "0" * 400 + "1e400",
    "0." + "0" * 400 + "1e+5",
    "1" + "0" * 400,
]
NUMBERS += [
    "1" + "0" * 400 + "e-400",
    "0." + "1" * 5000,
    "1" * 5000 + ".5",
    "1" * 4301 + "e-4300",
    "9" * 309,
    "1" * 309,
]
STRINGS = r"""a \" \\ \/ \b \f \n \r \t \u0000 \u0041 \u00e9 \uD83D\uDE00 \ud83d\ude00 \ud83d \ude00 \ud83dx \ud83d\n
\ud83d\u0041 \ud83d\ud83d \ude00\ud83d \ud83d\ud83d\ude00 \uDBFF\uDFFF \ud800\udc00 \ud7ff \ue000 \uffff \ufeff \u
\u1 \u12 \u123 \u123g \u+123 \u-123 \u0x41 \u_123 \U0041 \x41 \a \v \0 \' \e \1 \ \ud83d\u \ud83d\ude0 \ud83d\ude0g
\ud83d\ud7ff \ud83d\ue000 \u2028 \u00E9\u00e9 '""".split()  # noqa: SIM905
WHOLE = [
    "",
    " ",
    "\n",
    "[]",
    "{}",
    " [ ] ",
    "\t{\n}\r",
    "[",
    "]",
    "{",
    "}",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[,]",
    "[1,,2]",
    "[1 2]",
]
WHOLE += [
    "[1]]",
    "[1}",
    "{1}",
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    '{,"a":1}',
    '{"a" 1}',
    '{"a":1 "b":2}',
    '{"a":1,"b"}',
    "{a:1}",
]
WHOLE += [
    "{'a':1}",
    '{"a":1}{}',
    "1 2",
    "[]1",
    "[] []",
    "//\n1",
    "/**/1",
    "1//",
    "#\n1",
    "[1]\0",
    "\0",
    "\x0b1",
    "\x0c1",
    "\xa01",
]
WHOLE += [
    "\u20281",
    "\ufeff1",
    "1\ufeff",
    '"a',
    'a"',
    '"',
    '""',
    '"a""b"',
    '"\n"',
    '"\t"',
    '"\x00"',
    '"\x1f"',
    '"\x7f"',
    '"\x80"',
]
WHOLE += [
    '"\u2028"',
    '"\U0010ffff"',
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '{"a":1,"b":2,"a":3}',
    '{"":1,"":2}',
    '{"a":{"a":1}}',
]
WHOLE += [
    '[{"a":1},{"a":2}]',
    '{"b":{"a":1,"a":2}}',
    '{"a":1,"A":2}',
    '{"ab":1,"a":2}',
    '{"é":1,"é":2}',
    '{"é":1,"\\u00e9":2}',
]
WHOLE += [
    '{"\\ud83d\\ude00":1,"😀":2}',
    '{"\\u0000":1,"\\u0000b":2}',
    "{null:1}",
    "{1:1}",
    '{"a":1;"b":2}',
    '["a":1]',
    "[1:2]",
]
WHOLE += [
    "[true,false,null]",
    '{"a":[1,{"b":[]}],"c":{}}',
    "[ 1 , 2 ]",
    '{ "a" : 1 , "b" : 2 }',
    "[1\n,\r2\t]",
    "[1\x0c]",
    "[-]",
]
BYTES = [
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xc2",
    b"\xc2\x80",
    b"\xc2\xc0",
    b"\xdf\xbf",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
]
BYTES += [
    b"\xe0\xa0\x80",
    b"\xe0\xa0",
    b"\xe1\x80",
    b"\xe1\x80\xc0",
    b"\xed\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xee\x80\x80",
]
BYTES += [
    b"\xef\xbf\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf0\x90\x80\x80",
    b"\xf0\x90\x80",
    b"\xf0\x90",
    b"\xf0",
]
BYTES += [
    b"\xf4\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
    b"\xed\xa0\xbd\xed\xb8\x80",
]
DEPTHS = (1, 2, 63, 64, 65, 66, 500, 2_000, 100_000)


def documents() -> list[bytes]:
    """Tricky ones, by hand."""
    texts = [*WHOLE, *NUMBERS, *(f"[{number}]" for number in NUMBERS), *(f'"{text}"' for text in STRINGS)]
    texts += [f'{{"{text}":[1]}}' for text in STRINGS]
    found = [text.encode() for text in texts]
    found += [b'"' + text + b'"' for text in BYTES] + [b'{"' + text + b'":1}' for text in BYTES] + BYTES
    for depth in DEPTHS:
        found += [b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth, b'[{"a":' * depth]
        found.append(b"[" * (depth - 1) + b"1" + b"]" * (depth - 1))
    return [*found, "[1]".encode("utf-16"), "[1]".encode("utf-16-le"), "[1]".encode("utf-32"), b"\xef\xbb\xbf[1]"]


def changed_documents(count: int) -> list[bytes]:
    """Tricky ones, headers and graphs after changes of single characters and pieces."""
    random = Random(1)
    seeds = [text for text in documents() if len(text) < 1000]
    for data in small_networks():
        header = header_text(data)
        seeds += [header, json.loads(header).get("__metadata__", {}).get("graph", "").encode()]
    tokens = [
        *NUMBERS[:100],
        *'[]{},:"\\ \n-+.eE0',
        "\\u00e9",
        "\\ud83d",
        "\\ude00",
        '"a":1',
        "[1,2]",
        "\x1f",
        "\x7f",
        "é",
    ]
    changed = []
    for _ in range(count):
        data = bytearray(random.choice(seeds))
        for _ in range(random.choice([1, 1, 2, 4])):
            at = random.randrange(len(data) + 1)
            match random.randrange(5):
                case 0:
                    data[at : at + 1] = bytes([random.randrange(256)])
                case 1:
                    del data[at : at + random.randrange(1, 5)]
                case 2 | 3:
                    data[at : at + random.randrange(3)] = random.choice(tokens).encode()
                case _:
                    other = random.choice(seeds)
                    begin = random.randrange(len(other) + 1)
                    data[at:at] = other[begin : begin + 40]
        changed.append(bytes(data))
    return changed


def numbers(count: int) -> list[bytes]:
    """Valid ones of all sizes, many of them halfway between two doubles or next to that."""
    random = Random(2)
    found = []
    for _ in range(count):
        (value,) = struct.unpack("<d", random.randbytes(8))
        if value - value != 0:
            continue
        form = random.randrange(4)
        if form == 0:
            found.append(repr(value))
        elif form == 1:
            found.append(f"{value:.{random.randrange(25)}e}")
        elif form == 2:
            digits = "".join(random.choices("0123456789", k=random.randrange(1, 40)))
            found.append(f"{random.randrange(1, 10)}{digits}e{random.randrange(-380, 340)}")
        else:
            numerator = 2 ** random.randrange(53, 70) + random.randrange(2**53) * 2 + random.choice([-1, 0, 1])
            found.append(f"{numerator}.{'0' * random.randrange(1, 30)}{random.randrange(2)}")
    return [f"[{text}]".encode() for text in found]
