"""Makes tests/golden/clip-tokenizer/: CLIP's published tokenizer and what both references make of many strings.

`ids_hf` is transformers' CLIPTokenizer, cut to 77 with the end token kept. `ids_openai` is open_clip's SimpleTokenizer
(ftfy, HTML entities resolved twice, blanks, lower case) at context 77, without its trailing zeros.
"""

import json
import random
import unicodedata
from pathlib import Path

import texts
import words
from tokenizers_small import write_json

README = """# CLIP's tokenizer

`tokenizer.json` is the published one of OpenAI's CLIP (openai/clip-vit-base-patch32) with its blanks taken out;
`tokenizer_config.json` and `special_tokens_map.json` are as published.

`corpus.jsonl` has one object a line: `text`; `ids_hf`, the ids by transformers, cut to 77, end token kept;
`ids_openai`, the ids by open_clip's own tokenizer at context 77, trailing zeros taken off. It is made by
`onnx/golden/clip_corpus.py`.

## Licence of the tokenizer

MIT License. Copyright (c) 2021 OpenAI

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of
the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT,
TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

SCRIPTS = [
    "Καλημέρα κόσμε, τι κάνεις;",
    "ΑΣ ΜΑΣ ΔΕΙΣ ΟΛΟΥΣ",
    "Σ",
    "ΑΣ",
    "Σοφός σς ΣΣ",
    "Привет, мир!",
    "ЁЛКА и ёж",
    "Їжак на ґанку",
    "שלום עולם",
    "مرحبا بالعالم",
    "سلام دنیا ۱۲۳",
    "नमस्ते दुनिया",
    "ওহে বিশ্ব",
    "வணக்கம் உலகம்",
    "హలో ప్రపంచం",
    "สวัสดีชาวโลก",
    "ສະບາຍດີ",
    "မင်္ဂလာပါ",
    "សួស្តី",
    "გამარჯობა მსოფლიო",
    "ᲒᲐᲛᲐᲠᲯᲝᲑᲐ",
    "Բարեւ աշխարհ",
    "ሰላም ልዑል",
    "你好，世界！",
    "こんにちは世界",
    "コンニチハ",
    "ｺﾝﾆﾁﾊ",
    "안녕하세요 세계",
    "안녕",
    "Ṽñïçødé Ŧęṡṭ",
    "ĳsland Ĳsland",
    "Ǆ ǅ ǆ Ǉ ǈ ǉ Ǌ ǋ ǌ Ǳ ǲ ǳ",
    "ﬀ ﬁ ﬂ ﬃ ﬄ ﬅ ﬆ",
    "ŉ ǰ ẖ ẗ ẘ ẙ ẚ",
    "ẞ ß SS ss",
    "İ I ı i",
    "K Å Ω",
    "ſ long ſ",
    "it'ſ",
    "ᾼ ᾳ ΑΙ",
    "Ⅷ ⅷ ① ⓐ Ⓐ",
    "𝐁𝐨𝐥𝐝 𝒮𝒸𝓇𝒾𝓅𝓉 𝔻𝕠𝕦𝕓𝕝𝕖",
    "𐐀𐐨 𞤀𞤢",
    "Ꭰ ꭰ ᏸ",
    "Ⴀ ⴀ ა Ა",
    "½ ¼ ¾ ⅓ ² ³ ¹ ₂",
    "٠١٢٣ ०१२३ ๐๑๒ 〇一二",
    "℃ № ™ ℠ ㎏ ㏒",
    "€ £ ¥ ₹ ₽ ₿",
    "← ↑ → ↓ ⇒ ∀ ∃ ∑ √ ∞ ≠ ≤",
    "☃ ☀ ♥ ♪ ✓ ✗",
    "😀😃😄",
    "👍🏽",
    "👩‍💻👨‍👩‍👧‍👦",
    "🇩🇪🇫🇷",
    "🏳️‍🌈 🏴‍☠️",
    "1️⃣ #️⃣",
    "e\u0301 é e\u0301\u0302",
    "q\u0323\u0307 q\u0307\u0323",
    "\u1100\u1161\u11a8 각",
    "क़ \u0958",
    "\u0344 \u0374 \u037e \u0387",
    "\u212a \u212b \u2126",
    "\ufa10 \uf900 豈",
    "a\u0301\u0328b",
]
QUOTES = [
    "“hello”",
    "‘hello’",
    "it’s",
    "I’m",
    "we’ve they’re I’ll he’d don’t",
    "it's",
    "I'M WE'VE",
    "'s't're've'm'll'd",
    "' s",
    "''s",
    "„deutsch“ «français» ‹x›",
    "`back` ´acute´",
    "5′ 6″",
    "rock ’n’ roll",
    "‚low‛ ‟x",
    '"straight"',
    "don''t",
    "o'clock",
]
ENTITIES = [
    "&amp;",
    "&amp",
    "&amp;amp;",
    "&amp;amp;amp;",
    "&amp;lt;",
    "&lt;b&gt;",
    "&lt b &gt",
    "&quot;q&quot;",
    "&apos;",
    "&nbsp;x&nbsp;",
    "&nbspx",
    "&copy; &copy &reg &trade;",
    "&eacute; &Eacute; &eacute",
    "&notit; &notin;",
    "&not",
    "&AMP; &LT; &GT;",
    "&#65; &#x41; &#X41;",
    "&#65 &#x41",
    "&#8217;s",
    "&#146;s &#128;",
    "&#0; &#x0;",
    "&#55296;",
    "&#xD800;",
    "&#1114112;",
    "&#x110000;",
    "&#128512;",
    "&#x1F600;",
    "&#13;&#10;",
    "&#1;",
    "&#xfffe;",
    "&unknown;",
    "& amp;",
    "&;",
    "&#;",
    "&#x;",
    "a&b",
    "AT&T",
    "R&D; x",
    "&hellip;&mdash;&ndash;",
    "&euro;5 &pound;3",
    "&NotEqualTilde;",
    "&fjlig;",
    "<p>a &amp; b</p>",
    "<b>bold</b> &amp; <i>it</i>",
    "<br/>",
    "a < b &amp;&amp; c > d",
    "&acE;",
    "&bne;",
    "&lang; &rang;",
    "&ThickSpace;|",
    "&zwj;&zwnj;",
    "&shy;x",
    "&szlig; &Uuml;",
    "&amp;#39;s",
    "&amp;#x27;",
    "&amp;eacute;",
    "&ampere",
    "&ltimes; &ltcc;",
    "&para &parallel;",
    "&times2",
    "&frac12;",
    "&#x2019;",
    "&Sigma;&sigma;&sigmaf;",
]
MOJIBAKE_SOURCES = [
    "schön",
    "café crème",
    "naïve façade",
    "Ärger über Öl",
    "“quoted” text",
    "it’s",
    "em—dash and en–dash",
    "Привет",
    "Ελληνικά",
    "日本語",
    "한국어",
    "señor ñandú",
    "😀 smile",
    "price €5",
    "½ cup",
    "Łódź żółć",
    "Dvořák",
    "Çanakkale ğ",
    "à la carte",
    "São Paulo",
    "…",
    "•bullet",
    "©2020®",
    "Å",
]
DAMAGED = [
    "voilÃ  le café",
    "Ã  la carte",
    "dÃ©jÃ  vu, dÃ©jÃ\xa0 vu",
    "â€œquotedâ€\ufffd",
    "donâ€?t",
    "itâ€\ufffds",
    "caf\xc3\ufffd",
    "\ufffd caf\ufffd",
    "\x91quoted\x92 \x93double\x94 \x85 \x96",
    "10 \x80",
    "schÃ¶n und schön",
    "Ã¼ber über Ã\x9cber",
    "naïve cafÃ© «Ã©tÃ©»",
    "plain line\nschÃ¶n\nПривет",
    "Ã©\nété\nÃ‰tÃ©",
    "ÐŸÑ€Ð¸Ð²ÐµÑ‚ and Привет",
    "ï»¿text",
    "Â£5 Â£10 Â©2020",
    "Â½ cup",
    "5Â°C",
    "Â Â two",
    "Ã",
    "â€",
    "Â",
    "Ã±Ã¡ ANTÃ”NIO",
    "â™¥ love",
    "ðŸ˜€",
    "ðŸ˜",
    "Ã¢â‚¬â„¢s",
    "â€™s â€˜s",
    "l’humanitÃ©",
    "\x1b[31mred\x1b[0m",
    "\x1b[1;32mgreen",
    "\x1b[2J\x1b[H",
    "a\x1b]b",
    "&NTILDE;",
    "P&EACUTE;REZ",
    "<b>P&EACUTE;REZ</b>",
    "&Ntilde;andu <i>",
    "ﾊﾝｶｸ ｶﾞ ﾊﾟ",
    "Ｌｏｕｄ ｎｏｉｓｅｓ ！",
    "￥５ ￠ ￦",
    "ŀl Ŀl ŉ",
    "Ĳ ĳ ǆ",
    "ﬅop ﬆ",
    "＜ｂ＞ ＆ａｍｐ；",
    "&ldquo;x&rdquo; &lsquo;y&rsquo;",
    "&#x201c;x&#x201d;",
    "&#8220;x&#148;",
    "ʼn ʼ",
    "＇ ＂",
    "doesnâ\x80\x99t",
    "\xe2\x80\x9cquote\xe2\x80\x9d",
]
BLANKS = [
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x1f",
    "\x85",
    "\xa0",
    "\u1680",
    "\u180e",
] + [chr(code) for code in [*range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF]]
INVISIBLE = [
    "\x00",
    "\x01",
    "\x07",
    "\x08",
    "\x1b[31mred\x1b[0m",
    "\x1b",
    "\x7f",
    "\x80",
    "\x9f",
    "\xad",
    "\u034f",
    "\u200b",
    "\u200c",
    "\u200d",
    "\u200e",
    "\u202a",
    "\u202e",
    "\u2066",
    "\u206a",
    "\ufe0f",
    "\ufff9",
    "\ufffc",
    "\ufffd",
    "\U000e0041",
    "\ue000",
]
PUNCTUATION = [
    "!!!",
    "?!?!",
    "...",
    "…",
    "---",
    "a - b",
    "a--b",
    "a—b",
    "_a_b_",
    "__init__",
    "#tag @name",
    "$5.00",
    "50%",
    "(a) [b] {c}",
    "a/b\\c",
    "a|b",
    "^_^ :-) ;)",
    "~~~",
    "***bold***",
    "1,000.50",
    "3.14e-10",
    "user@example.org",
    "C++ C# .NET",
    "x=y+z",
    "\\n \\t \\u0041",
    "\\x41",
    "‐‑‒–—―",
    "،؛؟",
    "。、「」",
    "！？（）",
    "¡¿",
    "§¶†‡",
    "#",
    "'",
    '"',
]
SPECIAL = [
    "<|startoftext|>",
    "<|endoftext|>",
    "a <|endoftext|> b",
    "<|ENDOFTEXT|>",
    "<|startoftext|> a <|endoftext|>",
    "<start_of_text>",
    "a <end_of_text> b",
    "<END_OF_TEXT>",
    "<|endoftext|",
    "|endoftext|>",
    "</w>",
    "cat</w>",
    "<|endoftext|><|endoftext|>",
    "Ġcat",
    "x<|startoftext|>y",
    "<unk> <pad> </s> [CLS]",
]


def captions() -> list[str]:
    """Captions in many spellings."""
    generator = random.Random(77)
    spellings = [
        str,
        str,
        str.upper,
        str.title,
        lambda text: text + ".",
        lambda text: text.replace(" ", "  "),
        lambda text: f" {text} ",
        lambda text: text.replace(" ", "-"),
    ]
    return [generator.choice(spellings)(words.caption(generator)) for _ in range(150)]


def mojibake() -> list[str]:
    """Text whose UTF-8 was read as another encoding, once or twice."""
    found = []
    for source in MOJIBAKE_SOURCES:
        for encoding in ("latin-1", "cp1252", "cp1251", "mac_roman", "cp437"):
            misread = source.encode().decode(encoding, errors="ignore")
            found.append(misread)
            if encoding == "cp1252":
                found.append(misread.encode("utf-8").decode("cp1252", errors="ignore"))
                found.append(source.encode().decode("cp1252", errors="replace"))
                found.append(misread.replace("\xa0", " "))
    return found


def assigned(generator: random.Random, ranges: list[tuple[int, int]]) -> str:
    """A random letter that this Python's Unicode knows, and that is no half of a pair."""
    while True:
        letter = chr(generator.randint(*generator.choice(ranges)))
        if unicodedata.category(letter) not in ("Cn", "Cs"):
            return letter


def random_unicode() -> list[str]:
    """Random letters: from all planes, from the small alphabets, and from what ftfy looks at."""
    generator = random.Random(78)
    planes = [(0x20, 0x2FFF)] * 3 + [(0x3000, 0xFFFD), (0x10000, 0x1FAFF)]
    alphabets = [(0x41, 0x7A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x1E00, 0x1FFF)]
    suspicious = [(0xA0, 0xFF), (0x152, 0x192), (0x2013, 0x203A), (0x20AC, 0x20AC), (0x20, 0x7E)]
    return [
        "".join(assigned(generator, ranges) for _ in range(generator.randint(1, 24)))
        for ranges in (planes, alphabets, suspicious)
        for _ in range(60)
    ]


def dirty() -> list[str]:
    """Captions with pieces of everything else put in at random."""
    generator = random.Random(79)
    pieces = [*QUOTES, *ENTITIES, *PUNCTUATION, *SPECIAL[:8], *BLANKS, *INVISIBLE, *SCRIPTS, *DAMAGED]
    found = []
    for _ in range(130):
        parts = words.caption(generator).split(" ")
        for _ in range(generator.randint(1, 3)):
            parts.insert(generator.randint(0, len(parts)), generator.choice(pieces))
        found.append(generator.choice([" ", " ", ""]).join(parts))
    return found


def long_texts() -> list[str]:
    """Texts around the limit of 77 ids, and far over it."""
    counts = [73, 74, 75, 76, 77, 78, 150, 400]
    return (
        [" ".join(["cat"] * count) for count in counts]
        + ["😀" * count for count in (36, 37, 38, 39)]
        + ["x" * 3000, "1" * 76, "é" * 80]
    )


def corpus() -> list[str]:
    """Every string once, in order."""
    lists = [
        [text for text, _ in texts.TEXTS],
        captions(),
        SCRIPTS,
        QUOTES,
        ENTITIES,
        mojibake(),
        DAMAGED,
        PUNCTUATION,
        SPECIAL,
        long_texts(),
        random_unicode(),
        dirty(),
    ]
    lists.append([f"a{blank}b{blank}{blank}c{blank}" for blank in BLANKS])
    lists.append([f"a{letters}b {letters} c" for letters in INVISIBLE])
    return list(dict.fromkeys(text for strings in lists for text in strings))


def without_trailing_zeros(ids: list[int]) -> list[int]:
    while ids[-1] == 0:
        ids = ids[:-1]
    return ids


def write(golden: Path, published: Path) -> None:
    """The folder with tokenizer, corpus and licence."""
    from open_clip.tokenizer import SimpleTokenizer
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    folder = golden / "clip-tokenizer"
    write_json(folder / "tokenizer.json", json.loads((published / "tokenizer.json").read_text()), indent=None)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((published / name).read_bytes())
    (folder / "README.md").write_text(README)
    hugging_face, openai = AutoTokenizer.from_pretrained(folder), SimpleTokenizer(context_length=77)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain.enable_truncation(77)
    with (folder / "corpus.jsonl").open("w") as file:
        for text in corpus():
            ids_hf = hugging_face(text, truncation=True, max_length=77)["input_ids"]
            assert ids_hf == plain.encode(text).ids, f"transformers and tokenizers differ on {text!r}"
            ids_openai = without_trailing_zeros(openai(text)[0].tolist())
            file.write(
                json.dumps({"text": text, "ids_hf": ids_hf, "ids_openai": ids_openai}, separators=(",", ":")) + "\n"
            )
