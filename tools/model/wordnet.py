"""Makes the dictionary of the default model: words, one canonical sentence each, and their relations.

The only text source is WordNet 3.0 as Debian packages it; `fetch` downloads that package with apt-get and checks its
hash. `load(target)` gives the `target` most frequent usable words. A word is usable when its most tagged sense has a
gloss that is one short clause, when no synset behind it is offensive, and when it carries meaning of its own.

    python3.11 tools/model/wordnet.py [COUNT]     prints the dictionary, for reading
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

PACKAGE = "wordnet-base=1:3.0-37"
PACKAGE_SHA256 = "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752"
FULL = 2000
WORK = pathlib.Path(os.environ.get("NANDU_DICT_DATA", pathlib.Path.home() / ".cache/nandu/dictionary"))

# What the gate calls listed: a synset with such a mark is dropped whole, and so is a word whose other common
# senses have one, since people ask for the word and not for the sense.
OFFENSIVE = re.compile(
    r"offensive|slur|disparag|vulgar|obscene|derogat|ethnic|racis|sexual|genital|copulat|prostitut|rape|"
    r"\bnegro|\bslave|excre|\bfeces|\bbreast|penis|vagina|testic|intercourse|nazi|homosex|lesbian", re.IGNORECASE)
# Words WordNet lists as nouns or adverbs by accident of spelling, or that mean nothing outside a sentence.
FUNCTION_WORDS = frozenset("""
    a about above across after again against all almost along already also although always am an and another any are as
    at away back be because been before being below between both but by can cannot could did do does doing done down
    during each either else enough etc even ever every few first for from further get go got had has have having he her
    here hers him his how however i if in indeed instead into is it its itself just last least less like long lot lots
    made make many may maybe me mean meaning means might mine more most much must my near never next no none nor not
    nothing now of off often on once one only or other our ours out over own per perhaps quite rather re same second
    see several shall she should since so some somehow someone something somewhat soon still such than that the their
    them then there therefore these they third this those though three through thus till to together too anti doe wan pre non co toward towards
    two under until up upon us use very via was we well were what when where whether which while who whom why will with
    within without word words would yes yet you your four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen twenty thirty forty fifty sixty hundred thousand million billion fourth fifth sixth seventh ii iii
    iv vi vii be able opposite synonym example question answer mr mrs dr apart ago
""".split())
# Nouns that take no "a", though their gloss does.
UNCOUNTED = frozenset("""
    information water music news money evidence knowledge advice air art attention behavior blood bread business butter
    cash chemistry clothing coffee confidence content cotton courage damage darkness data death dirt dust earth education
    electricity energy english equipment experience faith fear fire flesh food freedom fun furniture glass gold grass
    hair happiness health heat help history homework housing humanity humor ice income independence industry influence
    ink intelligence iron justice labor land laughter law leather life light literature love luck luggage machinery
    mail maintenance manhood marriage mathematics matter meat medicine milk motion mud nature nonsense oil oxygen pain
    paper patience peace people philosophy physics planning plastic poetry politics pollution poverty power practice
    pressure pride production progress property psychology publicity rain reality religion research rest rice
    sadness safety salt sand satisfaction science shopping silence silk silver sleep smoke snow society soil space speech
    sport steel stuff sugar sunshine support talent tea teaching technology tennis thinking time traffic training
    transportation travel trouble truth understanding unemployment violence vision warfare warmth wealth weather wheat wine
    wisdom wood wool work zinc economics statistics ethics police cattle clothes headquarters means series species
    growth strength beauty cost demand supply use control god jazz baseball football golf basketball government
    today tomorrow yesterday midnight noon childhood adulthood hope hatred anger guilt grief joy grace honor luxury
    pleasure pity shame sorrow terror trust leadership membership ownership employment entertainment
    equality humanity hydrogen nitrogen uranium carbon cloth concrete corn cream dinner lunch breakfast fat flour fruit
    heaven hell honesty housework hunger imagination ignorance importance innocence insurance jewelry liberty logic lumber
    mankind moisture mercy mythology nationalism communism socialism capitalism democracy opera patience personnel
    petroleum photography plaster polymer porcelain prestige privacy protein radiation rhythm rubber self-help shelter
    slavery soap softness sociology starch sovereignty stone straw sweat symmetry tobacco trade treatment vegetation
    velocity wildlife zeal agriculture anatomy architecture astronomy biology botany ecology geology geography
    grammar gravity hygiene journalism linguistics management moonlight sunlight nutrition parking publishing reading
    writing spelling spending swimming hunting fishing dancing driving cooking drinking walking running hearing
    humidity width depth length height weight speed size mass volume age birth sex sight smell taste touch sound
""".split())

# Few of the words that people try first are frequent in the texts that WordNet counted: these are in the dictionary at
# any size, with a longer gloss if need be.
EVERYDAY = """
    dog cat horse cow bird fish apple tree flower water milk bread chair window computer music guitar piano bicycle train
    bridge island mountain lake forest desert rain snow wind cloud moon star planet elephant lion tiger snake spider bee
    butterfly rabbit sheep pig duck frog whale shark monkey bear wolf fox mouse banana potato tomato onion cheese sugar
    salt coffee tea knife spoon fork bottle bed lamp table clock mirror key lock shirt shoe hat coat ring gold silver iron
    pencil camera telephone radio television airplane boat ship castle museum library hospital market prince queen
    painter singer nurse farmer lawyer judge baker pilot uncle aunt happy sad angry hungry tired beautiful ugly funny
    clever lazy brave quiet loud sweet sour bitter sleep dream sing dance swim fly jump laugh cry cook eat drink buy sell
    teach dictionary language alphabet poem novel plant king river house garden doctor teacher
""".split()
# The sense that people mean where the tagged texts meant another: word -> how its gloss begins.
MEANT = {
    "whale": "any of the larger cetacean", "queen": "a female sovereign", "gold": "a soft yellow malleable",
    "salt": "white crystalline form", "clever": "mentally quick", "lazy": "disinclined to work",
    "sour": "having a sharp biting", "duck": "small wild or domesticated", "bear": "massive plantigrade",
    "lock": "a fastener fitted", "desert": "arid land", "table": "a piece of furniture having", "judge": "a public official",
    "sing": "produce tones with", "sleep": "a natural and periodic", "plant": "a living organism lacking", "cry": "shed tears",
    "key": "metal device shaped",
}
# Things one can count whose gloss lacks its article.
ONE = frozenset("""horse knife apple banana lion tiger tomato elephant fox snake cow butterfly mirror hat duck cat key spider
    pig sheep""".split())
CLAUSE_CHARS = 84
EVERYDAY_CHARS = 132
PARTS = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
POINTERS = {"@": "hypernym", "@i": "instance", "!": "antonym"}


@dataclasses.dataclass
class Word:
    word: str
    part: str
    definition: str
    """The one sentence with which a question for the word is answered."""
    synonyms: list[str]
    opposites: list[str]
    kinds: list[str]
    """What it is a kind of, nearest first; nouns only."""
    example: str
    count: int


@dataclasses.dataclass
class Synset:
    part: str
    words: list[str]
    gloss: str
    pointers: list[tuple[str, str, int, int]]
    """(kind, synset id, source word, target word); 0 is the whole synset."""
    is_offensive: bool


def fetch(work: pathlib.Path = WORK) -> pathlib.Path:
    """The directory of WordNet's files, downloaded once."""
    root = work / "wordnet"
    files = root / "usr/share/wordnet"
    if files.exists():
        return files
    work.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-qq", PACKAGE], cwd=work, check=True)
    package = next(work.glob("wordnet-base_*.deb"))
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    if digest != PACKAGE_SHA256:
        raise SystemExit(f"wordnet: {package.name} has sha256 {digest}, not the one recorded here")
    subprocess.run(["dpkg-deb", "-x", package.name, str(root)], cwd=work, check=True)
    return files


def _lines(name: str) -> list[str]:
    text = (fetch() / name).read_text("utf8")
    return [line for line in text.split("\n") if line and not line.startswith(" ")]


@functools.cache
def synsets() -> dict[str, Synset]:
    found = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in _lines(f"data.{part}"):
            head, _, gloss = line.partition(" | ")
            fields = head.split(" ")
            count = int(fields[3], 16)
            words = [re.sub(r"\(\w+\)$", "", fields[4 + 2 * i]) for i in range(count)]
            at = 4 + 2 * count
            pointers = []
            for i in range(int(fields[at])):
                symbol, offset, target_part, ends = fields[at + 1 + 4 * i: at + 5 + 4 * i]
                if symbol in POINTERS:
                    target = {"n": "noun", "v": "verb", "a": "adj", "s": "adj", "r": "adv"}[target_part] + offset
                    pointers.append((POINTERS[symbol], target, int(ends[:2], 16), int(ends[2:], 16)))
            found[part + fields[0]] = Synset(part, words, gloss.strip(), pointers, bool(OFFENSIVE.search(line)))
    return found


@functools.cache
def senses() -> dict[str, dict[str, list[str]]]:
    """part -> lemma -> synset ids in WordNet's order."""
    found = {}
    for part in ("noun", "verb", "adj", "adv"):
        of_part = found[part] = {}
        for line in _lines(f"index.{part}"):
            fields = line.split()
            of_part[fields[0]] = [part + offset for offset in fields[-int(fields[2]):]]
    return found


@functools.cache
def lemmas() -> frozenset[str]:
    return frozenset(lemma for of_part in senses().values() for lemma in of_part)


def is_known_form(word: str) -> bool:
    """Whether WordNet has the word or what it may be an inflection of."""
    if word in lemmas():
        return True
    stems = [(r"s$", ""), (r"es$", ""), (r"ies$", "y"), (r"ed$", ""), (r"ed$", "e"), (r"d$", ""), (r"ing$", ""),
             (r"ing$", "e"), (r"er$", ""), (r"er$", "e"), (r"est$", ""), (r"ly$", ""), (r"(.)\1ed$", r"\1"),
             (r"(.)\1ing$", r"\1")]
    return any(re.search(end, word) and re.sub(end, to, word) in lemmas() for end, to in stems)


@functools.cache
def tagged() -> dict[str, list[tuple[int, str]]]:
    """lemma -> (how often tagged, synset id), most often first."""
    found = collections.defaultdict(list)
    for line in _lines("cntlist.rev"):
        key, number, count = line.split(" ")
        lemma, _, rest = key.partition("%")
        ids = senses()[PARTS[rest[0]]].get(lemma)
        if ids and int(number) <= len(ids):
            found[lemma].append((int(count), ids[int(number) - 1]))
    for of_lemma in found.values():
        of_lemma.sort(key=lambda item: (-item[0], item[1]))
    return dict(found)


def clause(gloss: str, chars_max: int = CLAUSE_CHARS) -> str | None:
    """The first clause of a gloss as running text; None where it can't be short."""
    text = re.sub(r'[;:,]?\s*"[^"]*"?.*$', "", gloss)
    text = re.sub(r"^\s*\([^)]*\)\s*", "", text)
    text = re.sub(r"\s*\([^()]*\)", "", text)
    parts = [part.strip(" ,:") for part in re.split("[;:]", text)]
    text = parts[0] if parts else ""
    if not 8 <= len(text) <= chars_max or re.search(r'[()"`;:\[\]]|--|\bi\.e|\be\.g|\d\d\d', text):
        return None
    if re.match(r"(used|usually|often|sometimes|the|a|an|not)$", text):
        return None
    return re.sub(r"\s+", " ", text).rstrip(".")


def example_of(synset: Synset, word: str) -> str:
    """The shortest example that has the word as it was asked."""
    quoted = re.findall(r'"([^"]{12,60})"', synset.gloss)
    fitting = [q for q in quoted if re.search(rf"(?<!^)\b{re.escape(word)}\b", q)
               and not OFFENSIVE.search(q) and re.fullmatch(r"[A-Za-z ,'.-]+", q)]
    return min(fitting, key=len).rstrip(".") if fitting else ""


def article(word: str) -> str:
    if re.match(r"(hour|honest|honor|heir)", word):
        return "an"
    if re.match(r"(uni(?!m|n)|use|usu|eu|one|once|ut(e|i)|ura)", word):
        return "a"
    return "an" if word[0] in "aeiou" else "a"


def sentence(word: str, part: str, text: str) -> str:
    """How the dictionary says what a word means. The word always stands behind a space and in lower case: the same
    tokens as in the question, which is what a small model can learn to copy."""
    if part == "noun" and word not in UNCOUNTED and re.match(r"an? |one (of|who) |someone |any ", text):
        if not (word.endswith("s") and not word.endswith("ss")):
            return f"{article(word).capitalize()} {word} is {text}."
    if part == "verb" and re.search(r" (of|about|for|with|by|into|upon|from|at)$", text):
        text += " something"
    if part == "verb" and not re.match(r"(a|an|the|of|in|to|be|used)\b ", text):
        return f"To {word} is to {text}."
    return f"The word {word} means: {text}."


def is_plain(word: str) -> bool:
    return bool(re.fullmatch(r"[a-z]{2,14}", word)) and word not in FUNCTION_WORDS


def _related(synset_id: str, word: str, kind: str) -> list[str]:
    """Words that a pointer of this synset leads to, from this very word where the pointer says from which."""
    synset = synsets()[synset_id]
    lower = [w.lower() for w in synset.words]
    found = []
    for name, target_id, source, target in synset.pointers:
        if name != kind or (source and lower[source - 1] != word):
            continue
        other = synsets()[target_id]
        if other.is_offensive:
            continue
        found += [other.words[target - 1]] if target else other.words[:1]
    return [w for w in found if re.fullmatch(r"[a-z]+(_[a-z]+)?", w) and w != word]


def _kinds(synset_id: str, word: str) -> list[str]:
    chain, seen = [], set()
    while synset_id not in seen:
        seen.add(synset_id)
        up = [p for p in synsets()[synset_id].pointers if p[0] == "hypernym"]
        if not up:
            break
        synset_id = up[0][1]
        name = synsets()[synset_id].words[0]
        if re.fullmatch(r"[a-z]+(_[a-z]+)?", name) and name != word:
            chain.append(name.replace("_", " "))
    return chain


def _entry(word: str, count: int, chars_max: int) -> Word | None:
    options = tagged().get(word, []) or [(1, ids[0]) for ids in (p[word] for p in senses().values() if word in p)]
    if word in MEANT:
        meant = [ids for ids in (i for p in senses().values() for i in p.get(word, []))
                 if re.sub(r"^\([^)]*\) ", "", synsets()[ids].gloss).startswith(MEANT[word])]
        options = [(1, meant[0])]
    best = options[0][0]
    if any(synsets()[i].is_offensive for n, i in options if n * 5 >= best):
        return None
    for n, synset_id in options:
        # Another sense stands in for a gloss too long to learn only where it is nearly as common.
        if n * 3 < best:
            break
        synset = synsets()[synset_id]
        written = [w for w in synset.words if w.lower() == word]
        if not written or written[0] != word or any(p[0] == "instance" for p in synset.pointers):
            continue
        text = clause(synset.gloss, chars_max)
        if text is None or re.search(rf"\b{word}\b", text):
            continue
        if synset.part == "noun" and word in ONE and not re.match(r"(an?|the|any) ", text):
            text = f"{article(text)} {text}"
        synonyms = [w for w in synset.words if w != word and is_plain(w)]
        opposites = [w for w in _related(synset_id, word, "antonym") if is_plain(w)]
        kinds = _kinds(synset_id, word) if synset.part == "noun" else []
        return Word(word, synset.part, sentence(word, synset.part, text), synonyms, opposites, kinds,
                    example_of(synset, word), count)
    return None


@functools.cache
def load(target: int = FULL) -> list[Word]:
    """The first `target` words of the dictionary, most frequent word first; it has more than FULL only where more are asked
    for. Kept in a file, for it takes 20 seconds."""
    source = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:12]
    size = max(target, FULL)
    kept = WORK / f"words-{size}-{source}.json"
    if not kept.exists():
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps([dataclasses.asdict(entry) for entry in _dictionary(size)]), "utf8")
        part.rename(kept)
    return [Word(**fields) for fields in json.loads(kept.read_text("utf8"))][:target]


def _dictionary(target: int) -> list[Word]:
    totals = {w: sum(n for n, _ in options) for w, options in tagged().items() if is_plain(w)}
    everyday = [entry for w in EVERYDAY if (entry := _entry(w, totals.get(w, 0), EVERYDAY_CHARS))]
    names = {entry.word for entry in everyday}
    ranked = sorted((w for w in totals if totals[w] > 0), key=lambda w: (-totals[w], w))
    found: list[Word] = []
    for word in ranked:
        entry = None if word in names else _entry(word, totals[word], CLAUSE_CHARS)
        if entry:
            found.append(entry)
            if len(found) + len(everyday) >= target:
                break
    return sorted(found + everyday, key=lambda entry: (-entry.count, entry.word))


@functools.cache
def offensive_words(target: int = FULL) -> frozenset[str]:
    """Words whose first sense WordNet marks as offensive, and which no definition needs."""
    marked = re.compile(r"offensive|\bslur|disparag|vulgar|obscene|derogat", re.IGNORECASE)
    used = {word for entry in load(target) for word in re.findall(r"[a-z]+", entry.definition.lower())}
    return frozenset(
        lemma for of_part in senses().values() for lemma, ids in of_part.items()
        if re.fullmatch(r"[a-z]{3,}", lemma) and lemma not in used and marked.search(synsets()[ids[0]].gloss))


def rare_words(target: int = FULL) -> list[str]:
    """Real words that the dictionary does not have, without the offensive ones."""
    known = {entry.word for entry in load(target)} | offensive_words(target)
    return sorted(w for w in lemmas() if is_plain(w) and 4 <= len(w) <= 12 and w not in known)


if __name__ == "__main__":
    for item in load(int(sys.argv[1]) if len(sys.argv) > 1 else 2000):
        print(item.count, item.part, item.definition, "|", ", ".join(item.synonyms[:2]), "|", ", ".join(item.opposites[:2]),
              "|", ", ".join(item.kinds[:3]), "|", item.example)
