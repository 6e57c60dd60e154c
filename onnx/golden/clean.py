"""Write tests/golden/clean/cases.jsonl: hard texts, and what the Python references make of each.

The references, none of which is copied here:
  open_clip 3.3 (tokenizer.py, `get_clean_fn`), which calls ftfy 6.3.1 and html.unescape;
  transformers 5.24 (SiglipTokenizer.canonicalize_text);
  immich (immich_ml/models/transforms.py, `clean_text`), two lines that are stated below.

Run with the Python of the project's references, from anywhere: `python onnx/golden/clean.py`. Seeded, so that a second
run writes the same file. The cases are ASCII JSON, one a line; texts never hold lone surrogates, which no Rust string
can.
"""

import html.entities
import json
import random
import string
from pathlib import Path

from open_clip.tokenizer import get_clean_fn
from transformers import SiglipTokenizer

SEED = 20260729
TARGET = Path(__file__).resolve().parents[2] / "tests" / "golden" / "clean" / "cases.jsonl"
ENCODINGS = (
    "latin-1 sloppy-windows-1250 sloppy-windows-1251 sloppy-windows-1252 sloppy-windows-1253 sloppy-windows-1254 "
    "sloppy-windows-1257 iso-8859-2 macroman cp437"
).split()

WORDS = (
    "a photo of the cat, red car; street sign! (old) 50% off it's don't co-op a_b x&y R&D AT&T\n"
    "café crème à la mode voilà fà cil às àquele naïve façade Übergröße Straße Österreich señor ¿qué? ¡olé! São João "
    "Zażółć gęślą jaźń Łódź Příliš žluťoučký kůň Ťažký őszi tűz ağaç İstanbul ışık çok güzel Rīga ķēve šķūnis Žemė "
    "Ελληνικά ΟΔΥΣΣΕΥΣ σοφός ΑΣ. Σ ΌΣΟΣ ΐ ΰ Москва съешь ещё этих "
    "ґанок їжак Ђурђевак العربية مرحبا שלום हिन्दी বাংলা ไทย "
    "日本語 テスト 한국어 각 汉字 繁體 — “quoted” ‘single’ „low“ ‚x‛ «guillemets» … • ™ © ® € £ ¥ ½ ² ° µ × ÷ † ‡ ‰ ƒ ˆ ˜ "
    "😀 👍🏽 🏴󠁧󠁢󠁷󠁬󠁳󠁿 👩‍👩‍👧 𝒜𝓁 𐍈 ＬＯＵＤ　ＮＯＩＳＥＳ Ｕﾀｰﾝ ｶﾞｷﾞ ﾡﾢ ￥￦ ｡｢｣ ﬁne ﬂow oﬃce ﬅ ﬆ Ĳs ĳ ŉ Ǆ ǅ ǆ Ǉ ǌ Ǳ ǲ ŀ ſ ẞ ǰ ΐ "
    "e\u0301 A\u030a \u1100\u1161\u11a8 \u0344 \u212b \u2126 \u0958 q\u0307\u0323 "
    "don\u02bct x\u0085y a\u2028b c\u2029d e\rf g\r\nh"
).split(" ")

SPACES = [
    " ", " ", "  ", "\t", "\n", "\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0",
    "\u1680", "\u180e", "\u2003", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "",
]  # fmt: skip

ESCAPES = [
    "\x1b[0m", "\x1b[36;44m", "\x1b[m", "\x1b[1;", "\x1b[", "\x1b", "\x1b[1;2H", "\x1b]0;t\x07", "\x1b[٣m",
    "\x1b[1 m", "\x1b[;;K", "\x1b[1é", "\x9b1m", "\x1b\x1b[1m[1m",
]  # fmt: skip

REFERENCES = [
    "&amp;", "&amp", "&lt;", "&lt", "&amp;lt;", "&amp;amp;lt;", "&notit;", "&notin;", "&not", "this&not that",
    "&EACUTE;", "&NTILDE;", "&nTILDE;", "&SZLIG;", "&HELLIP;", "&LTCC;", "&frac12;", "&FRAC12;", "&NotEqualTilde;",
    "&fjlig;", "&CounterClockwiseContourIntegral;", "&CounterClockwiseContourIntegra;", "&#65;", "&#65", "&#x41;",
    "&#X41", "&#x", "&#", "&", "&;", "&#;", "&#0;", "&#x80;", "&#128;", "&#129;", "&#13;", "&#10;", "&#1;", "&#11;",
    "&#x0B;", "&#xFFFE;", "&#xFDD0;", "&#x1FFFF;", "&#xD800;", "&#55357;&#56841;", "&#x1F600;", "&#1114112;",
    "&#99999999999999999999;", "&#x110000;", "&#59;", "&#x3b;", "&#60;", "&#38;", "&#38;lt;", "&#12ab;", "&#xZZ;",
    "&#٣;", "&nbsp;", "&NBSP;", "&copy2024", "&copy;2024", "&ampamp;", "&AMP;", "&AMPamp;",
    "&abcdefghijklmnopqrstuvwxyzabcdefg;", "&ampé;", "&é;", "&times;", "&timesbar;", "&timesb", "&timesq;", "&Tab;",
    "&NewLine;", "&lsquo;", "&rdquo;", "&zwj;", "&shy;", "&bne;", "&sup1;", "&sup", "&sup10;", "&a;", "&a", "&l t;",
    "&lt<", "&lt&gt", "<", "<b>", ">", "&#x9D;", "&#157;", "&#127;", "&quot;", "&apos;", "&apos", "&LT;", "&lT;",
    "&Lt;", "&GT", "&eacute", "&Eacutes", "&ATILDE;&SUP3;", "&macr;\\_(ツ)_/&macr;",
]  # fmt: skip

NOTABLE = [
    "âœ” No problems", "sÃ³", "voilÃ le travail", "Ã la mode", "Ã quele", "Ã s vezes", "Ã  la", "fÃ cil",
    "â€œ like this â€\ufffd", "The Mona Lisa doesnâ€™t have eyebrows.", "l’humanitÃ©",
    "Ã\xa0 perturber la rÃ©flexion", "schÃ¶n", "rÃ©flexion 日本", "ï»¿bom", "Ã¢â‚¬Å“doubleÃ¢â‚¬\x9d", "âˆž", "Â£20",
    "20Â°C", "Â", "Ã", "Ã ", "Â ", " Â ", "a Ã ", "a\nÂ ", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "РїСЂРёРІРµС‚", "í\xa0½í¸\x8d",
    "í\xa0½í¸\n", "íˆ\xa0", "À€", "À\n", "ÃÀ\n", "Ãí\n", "é À€", "Ã©À\n", "í\xa0½", "\x96 dash", "\x85", "\x81\x8d",
    "\x80é\x81", "Ã©\x81", "Ã?", "Ã\x1a", "â€?", "ð\x9f\x98?", "ð ", "ð\x9f ", "ã \x81", "â \x80", "Å ", "Î ", "Ù ",
    "Ð ", "œa", "œé", "œ\n", "œ", "ГўВЂВxa", "ГўВЂВ\na", "вЂ™", "в‚¬", "β€™", "ā€", "≈°", "√©", "‚Äô", "‚Äî", "├⌐",
    "ΓÇö", "×²", "à²•", "Ù…Ø±Ø­Ø¨Ø§", "É°", "Ü°", "║Ö", "a\ufffd", "é\ufffd", "é”x", "é”_", "é” ", "é”\u0301", "é”٣",
    "é”Ⅷ", "é”²", "aÂ “", "a Â “", ", Â “", "”Â”", "Â€", "xÂ€", " Ã€", "\x1fÀ€", "ϐ", "ΑΣ", "ΑΣΑ", "Α\u0301Σ",
    "ΑΣ\u0301Α", "Σ", "'Σ", "ΑΣ'Α", "ΑΣ.", "İ", "Iİ", "ẞ", "Ⅷ", "Ⓐ", "𐐀", "Ა", "Ꭰ", "K", "Å", "_under_score_", "a_ b",
    "__", "!!!", "... ", "a . b", "{}", "`~", "", " ", "\n", "\x00", "\x7f", "\ufffc", "\u206a", "<&amp;\n&amp;",
    "&amp;\n<\n&amp;", "&lt;b&gt;\n&amp;amp;", "Ã©\nÃ©<\n&eacute;", "ŉ", "ﬅ", "\x1b[1mÃ©\x1b[0m", "a\ufeffb",
]  # fmt: skip


def broken(text, rng):
    """The text encoded as UTF-8 and decoded by a wrong code page; None where the page cannot."""
    data = text.encode("utf-8")
    kind = rng.random()
    if kind < 0.1:
        # CESU-8: each half of a surrogate pair is encoded by itself. And Java's two bytes for a null.
        halves = text.encode("utf-16-be", "surrogatepass")
        units = [int.from_bytes(halves[i : i + 2], "big") for i in range(0, len(halves), 2)]
        data = b"".join(chr(unit).encode("utf-8", "surrogatepass") for unit in units)
        data += rng.choice([b"", b"\xc0\x80", b"\xc0", b"\xed", b"\xed\xa0\xbd\xed\xb8\n"])
    elif kind < 0.2:
        data = data.replace(b"\xa0", b" ")
    elif kind < 0.3:
        data = bytes(0x1A if byte in b"\x81\x8d\x8f\x90\x9d" else byte for byte in data)
    elif kind < 0.35 and data:
        data = data[: rng.randrange(len(data))] + rng.choice([b"", b"?", b"\x1a"]) + data[rng.randrange(len(data)) :]
    try:
        return data.decode(rng.choice(ENCODINGS))
    except UnicodeDecodeError:
        return None


def any_character(rng):
    """One character, over all planes, with weight on the blocks that the references treat specially."""
    low, high = rng.choice(
        [(0, 0x20), (0x20, 0x7F), (0x80, 0x100), (0x80, 0xA0), (0x100, 0x250), (0x250, 0x370), (0x370, 0x530),
         (0x530, 0x2000), (0x1E00, 0x2000), (0x2000, 0x2070), (0x2070, 0x2600), (0x2600, 0xD800), (0xE000, 0xFB00),
         (0xFB00, 0xFF00), (0xFF00, 0xFFF0), (0xFFF0, 0x10000), (0x10000, 0x20000), (0x20000, 0x110000)]
    )  # fmt: skip
    return chr(rng.randrange(low, high))


def alphabet():
    """Every character that ftfy's mojibake rules can look at: what the ten code pages hold above 0x7F."""
    pages = "".join(bytes(range(0x80, 0x100)).decode(name) for name in ENCODINGS)
    return sorted(set(pages + "\ufffd\x1a ?'´—–ĞİŸ \n"))


ALPHABET = alphabet()


def words(rng):
    """Some words, joined by some kind of space."""
    return "".join(rng.choice(WORDS) + rng.choice(SPACES) for _ in range(rng.randint(1, 6)))


def mojibake(rng):
    """Words broken once to three times, at times in the middle of whole ones."""
    text = words(rng) if rng.random() < 0.7 else rng.choice(WORDS)
    for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3])):
        text = broken(text, rng) or text
    if rng.random() < 0.4:
        text = rng.choice(WORDS) + rng.choice(SPACES) + text + rng.choice(SPACES) + rng.choice(WORDS)
    return text


def pieces(rng):
    """Anything beside anything."""
    sources = [WORDS, SPACES, ESCAPES, REFERENCES, NOTABLE, ALPHABET, list(string.printable)]
    parts = []
    for _ in range(rng.randint(1, 9)):
        parts.append(mojibake(rng) if rng.random() < 0.1 else rng.choice(rng.choice(sources)))
    return "".join(parts)


def random_text(rng):
    """One text of one of the families."""
    kind = rng.random()
    if kind < 0.35:
        return mojibake(rng)
    if kind < 0.55:
        return pieces(rng)
    if kind < 0.7:
        return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, 12)))
    if kind < 0.8:
        letters = "".join(rng.choice(ALPHABET) for _ in range(3)) + "aZ .,1_"
        return "".join(rng.choice(letters) for _ in range(rng.randint(2, 10)))
    if kind < 0.9:
        return "".join(any_character(rng) for _ in range(rng.randint(1, 20)))
    return "".join(rng.choice("&#xX;<aAmMpPlLtTgGnNoOqQuU1238fé ") for _ in range(rng.randint(2, 30)))


def entity_texts():
    """Every name of html.entities.html5, as written, in capitals, and without its semicolon."""
    names = sorted({name.rstrip(";") for name in html.entities.html5})
    for start in range(0, len(names), 45):
        chunk = names[start : start + 45]
        yield " ".join(f"&{name};" for name in chunk)
        yield " ".join(f"&{name.upper()};" for name in chunk)
        yield " ".join(f"&{name}" for name in chunk)


def immich(text, canonicalize=False):
    """What immich's clean_text does."""
    text = " ".join(text.split())
    return text.translate(str.maketrans("", "", string.punctuation)).lower() if canonicalize else text


def siglip_reference():
    """SiglipTokenizer's canonicalize_text without a vocabulary file, which cleaning does not read."""
    tokenizer = SiglipTokenizer.__new__(SiglipTokenizer)
    tokenizer.__dict__["do_lower_case"] = True
    return tokenizer.canonicalize_text


SIGLIP = siglip_reference()


def case(text):
    """One line of the golden file."""
    return {
        "text": text,
        "lower": get_clean_fn("lower")(text),
        "whitespace": get_clean_fn("whitespace")(text),
        "canonicalize": get_clean_fn("canonicalize")(text),
        "immich": immich(text),
        "immich_canonicalize": immich(text, canonicalize=True),
        "siglip": SIGLIP(text),
    }


def texts(rng, count):
    """The named texts and then random ones, no text twice."""
    fixed = WORDS + ESCAPES + REFERENCES + NOTABLE + list(entity_texts())
    seen = dict.fromkeys(fixed + [f"a{space}b{space}" for space in SPACES])
    while len(seen) < count:
        seen.setdefault(random_text(rng))
    return list(seen)


def main():
    """Write the file."""
    rng = random.Random(SEED)
    lines = [json.dumps(case(text)) for text in texts(rng, 2000)]
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} cases in {TARGET}")


if __name__ == "__main__":
    main()
