"""Makes tests/golden/texts.json: texts that tokenizers and cleaners get wrong."""

import json
from pathlib import Path

LONG = (
    "a very long caption that describes a market square in the rain with red umbrellas, two dogs, a bicycle against a "
    "wall, wet cobblestones, a baker in the door, a tram that waits, pigeons on the roof, and far away the hills in fog"
)

TEXTS = [
    ("", "empty"),
    ("   \t \n ", "blanks only"),
    ("a photo of a cat", "plain"),
    ("A Photo Of A DOG.", "capitals"),
    ("two dogs playing in the snow, seen from above", "a caption"),
    (LONG, "longer than every context"),
    (" ".join([LONG] * 3), "longer than 77 tokens by far"),
    ("a 😀 smiling 🐱‍👤 cat", "emoji and a joined one"),
    ("👩‍👩‍👧‍👦 family 🏳️‍🌈", "emoji joined by zero-width joiners, with variation selectors"),
    ("ΟΔΥΣΣΕΥΣ και ΣΟΦΟΣ", "Greek, final sigma"),
    ("ǅungla i ǈubav", "titlecase digraphs"),
    ("the ﬁrst ﬂight of the eﬃcient oﬀer", "ligatures"),
    ("Ｆｕｌｌ－ｗｉｄｔｈ　ｔｅｘｔ １２３", "full-width letters and ideographic space"),
    ("“curly” ‘quotes’ and it’s a dog’s life", "curly quotes"),
    ("salt &amp; pepper", "an HTML entity"),
    ("salt &amp;amp; pepper", "an entity escaped twice"),
    ("1 &lt; 2 &gt; 0 &quot;x&quot; &#39;y&#39; &eacute;", "more entities"),
    ("SchÃ¶n, cafÃ© â€œnaÃ¯veâ€\x9d", "mojibake"),
    ("a - b", "punctuation alone between spaces"),
    ("snake_case_words and __dunder__", "underscores"),
    ("tabs\tand\nnew\r\nlines\u00a0and\u2003wide\u2009spaces", "kinds of whitespace"),
    ("cafe\u0301 noe\u0308l a\u030a", "combining accents"),
    ("café noël å", "the same, composed"),
    ("一隻貓在桌子上睡覺", "Chinese"),
    ("猫が机の上で寝ている", "Japanese"),
    ("책상 위의 고양이", "Korean"),
    ("قطة على الطاولة", "Arabic"),
    ("बिल्ली मेज पर है", "Hindi"),
    ("кошка на СТОЛЕ", "Russian"),
    ("İstanbul ile IĞDIR", "Turkish dotted capital"),
    ("Straße und GROẞE", "sharp s"),
    ("1234567890 3.14 1,000,000 ½ ² Ⅷ ٣", "digits of many kinds"),
    ("!!!???... --- *** (((~~~)))", "runs of punctuation"),
    ("wow!!! it's what we've got, isn't it? I'd say they'll", "contractions"),
    ("before <|endoftext|> after", "the end token as text"),
    ("<|startoftext|>a cat", "the start token as text"),
    ("before </s> after <pad> <unk>", "SentencePiece's special tokens as text"),
    ("<start_of_text> a <end_of_text> cat", "open_clip's names of its special tokens as text"),
    ("control \x01\x02 characters \x7f and \x1c separators \x1f", "control characters"),
    ("zero\u200bwidth\ufeff and soft\u00adhyphen", "invisible characters"),
    ("pneumonoultramicroscopicsilicovolcanoconiosis" * 4, "one very long word"),
    ("hello" * 60, "a long word of one pattern"),
    ("http://example.org/a?b=c&d=e#f", "an address"),
    ("a photo of a {}.", "braces"),
    ("▁under▁bars▁of SentencePiece", "U+2581"),
    ("ﷺ ㎏ ℃ №", "characters that NFKC expands"),
]


def write(golden: Path) -> None:
    listing = [{"text": text, "note": note} for text, note in TEXTS]
    (golden / "texts.json").write_text(json.dumps(listing, indent=1, ensure_ascii=True) + "\n")
