"""Checks the Helm chart without Helm: renders it by a strict reading of the template language that it
uses, several times with other values, and holds what comes out to the rest of the project.

    chart.py ROOT    the root of the repository

Whatever of the language is not known here is an error: the chart uses no more than this.
"""

import hashlib
import itertools
import json
import pathlib
import re
import sys
import tomllib

import jsonschema_rs
import yaml

TAG = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\(|\)|\||[^\s()|]+')


class Fault(Exception):
    """What is wrong with the chart."""


def parse(text):
    """A template as a list of texts and (keyword, expression, body, otherwise)."""
    parts, at = [], 0
    for tag in TAG.finditer(text):
        before = text[at : tag.start()]
        if parts and parts[-1] == "trim":
            parts.pop()
            before = before.lstrip()
        if tag[1]:
            before = before.rstrip()
        parts.append(before)
        parts.append(("tag", tag[2]))
        if tag[3]:
            parts.append("trim")
        at = tag.end()
    rest = text[at:]
    if parts and parts[-1] == "trim":
        parts.pop()
        rest = rest.lstrip()
    parts.append(rest)
    tokens = iter(parts)

    def block():
        nodes = []
        for part in tokens:
            if isinstance(part, str):
                nodes.append(part)
                continue
            words = part[1].split(None, 1)
            if part[1].startswith("/*"):
                continue
            if words[0] in ("if", "with", "range", "define"):
                body, end = block()
                otherwise = []
                if end == "else":
                    otherwise, end = block()
                if end != "end":
                    raise Fault(f"{part[1]} has no end")
                nodes.append((words[0], words[1], body, otherwise))
            elif words[0] in ("else", "end"):
                if len(words) > 1:
                    raise Fault(f"{part[1]} is not known")
                return nodes, words[0]
            else:
                nodes.append(("print", part[1], [], []))
        return nodes, None

    nodes, end = block()
    if end:
        raise Fault(f"{end} without a beginning")
    return nodes


def show(value):
    """As Go's templates print it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


class Chart:
    """The chart, read."""

    def __init__(self, folder):
        self.named = {}
        self.used = set()
        self.templates = {}
        for file in sorted((folder / "templates").iterdir()):
            nodes = parse(file.read_text(encoding="utf-8"))
            for node in nodes:
                if isinstance(node, tuple) and node[0] == "define":
                    self.named[json.loads(node[1])] = node[2]
            if not file.name.startswith("_"):
                self.templates[file.name] = nodes

    def render(self, nodes, dot, root):
        out = []
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
                continue
            word, expression, body, otherwise = node
            if word == "define":
                continue
            value = self.evaluate(expression, dot, root)
            if word == "print":
                out.append(show(value))
            elif word == "if":
                out.append(self.render(body if value else otherwise, dot, root))
            elif word == "with":
                chosen = (body, value) if value else (otherwise, dot)
                out.append(self.render(*chosen, root))
            else:
                out.extend(self.render(body, one, root) for one in value)
        return "".join(out)

    def evaluate(self, expression, dot, root):
        words = WORD.findall(expression)
        if "".join(words) != re.sub(r'\s+(?=(?:[^"]*"[^"]*")*[^"]*$)', "", expression):
            raise Fault(f"{expression} cannot be read")
        value = self.pipeline(words, dot, root)
        if words:
            raise Fault(f"{expression}: {words} is left over")
        return value

    def pipeline(self, words, dot, root):
        value = self.call(words, dot, root, [])
        while words and words[0] == "|":
            words.pop(0)
            value = self.call(words, dot, root, [value])
        return value

    def call(self, words, dot, root, last):
        name = words.pop(0)
        if name == "(" or name[0] in '."$' or name.lstrip("-").isdigit():
            if last:
                raise Fault(f"{name} takes nothing")
            return self.operand(name, words, dot, root)
        given = []
        while words and words[0] not in ("|", ")"):
            given.append(self.operand(words.pop(0), words, dot, root))
        given += last
        match name, given:
            case "quote", [value]:
                return json.dumps(show(value))
            case "default", [other, value]:
                return value or other
            case "nindent", [width, text]:
                space = " " * width
                return "\n" + "\n".join(space + line if line else line for line in text.split("\n"))
            case "toYaml", [value]:
                return yaml.safe_dump(value, default_flow_style=False).rstrip("\n")
            case "sha256sum", [text]:
                return hashlib.sha256(text.encode()).hexdigest()
            case "printf", [form, *values]:
                return form.replace("%v", "%s") % tuple(show(value) for value in values)
            case "include", [named, inner]:
                if named not in self.named:
                    raise Fault(f"{named} is not defined")
                return self.render(self.named[named], inner, root).strip("\n")
            case "not", [value]:
                return not value
            case "and", values:
                return next((value for value in values if not value), values[-1])
        raise Fault(f"{name} with {len(given)} arguments is not known")

    def operand(self, word, words, dot, root):
        if word == "(":
            value = self.pipeline(words, dot, root)
            if not words or words.pop(0) != ")":
                raise Fault("a bracket is open")
            return value
        if word.startswith('"'):
            return json.loads(word)
        if word.lstrip("-").isdigit():
            return int(word)
        value, path = (root, word[1:]) if word.startswith("$") else (dot, word)
        names = [name for name in path.split(".") if name]
        if names[:1] == ["Values"]:
            self.used.add(tuple(names[1:]))
        for name in names:
            if not isinstance(value, dict) or name not in value:
                raise Fault(f"{word}: there is no {name}")
            value = value[name]
        return value


def leaves(values, before=()):
    """The paths of all values; one that may hold anything counts as one."""
    for name, value in values.items():
        if isinstance(value, dict) and value and before + (name,) != ("resources",):
            yield from leaves(value, before + (name,))
        else:
            yield before + (name,)


def merged(values, changes):
    """Values with others in their place."""
    values = json.loads(json.dumps(values))
    for path, value in changes.items():
        place = values
        *parents, last = path.split(".")
        for name in parents:
            place = place[name]
        place[last] = value
    return values


def settings(table, before=""):
    """The keys of a TOML document, with dots."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from settings(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def need(is_so, what):
    if not is_so:
        raise Fault(what)


def check_documents(documents, known, variables, paths):
    """Whether what is rendered fits together and to the program."""
    of = {}
    for document in documents:
        need(document.get("apiVersion") and document.get("kind"), f"{document}: no kind")
        need(document["metadata"]["name"], "no name")
        of.setdefault(document["kind"], []).append(document)
    deployment = of["Deployment"][0]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [deployment["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in of["Service"]]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of.get("PodDisruptionBudget", [])]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in of.get("NetworkPolicy", [])]
    for selector in selectors:
        need(selector.items() <= labels.items(), f"{selector} selects no pod with {labels}")
    for monitor in of.get("ServiceMonitor", []):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [one for one in of["Service"] if wanted <= one["metadata"]["labels"].items()]
        need(len(found) == 1, f"the monitor finds {len(found)} services")
    pod = deployment["template"]["spec"]
    need(pod["enableServiceLinks"] is False, "service links give unknown MORTISE_ variables")
    container = pod["containers"][0]
    ports = {port["name"] for port in container["ports"]}
    for service in of["Service"]:
        for port in service["spec"]["ports"]:
            need(port["targetPort"] in ports, f"{port} leads nowhere")
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        path = container[probe]["httpGet"]["path"]
        need(path in paths, f"{probe}: there is no {path}")
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    need(mounted == {volume["name"] for volume in pod["volumes"]}, "volumes and mounts differ")
    containers = [container]
    containers += [job["spec"]["template"]["spec"]["containers"][0] for job in of.get("Job", [])]
    for one in containers:
        for variable in one["env"]:
            need(variable["name"] in variables, f"{variable['name']} is no setting")
        need(one["image"] == container["image"], "the job has another image")
    text = of["ConfigMap"][0]["data"]["mortise.toml"]
    for key in settings(tomllib.loads(text)):
        need(key in known, f"the setting {key} is not in docs/configuration.md")
    return of


def main():
    root = pathlib.Path(sys.argv[1])
    folder = root / "deploy/helm/mortise"
    chart_file = yaml.safe_load((folder / "Chart.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((folder / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((folder / "values.schema.json").read_text(encoding="utf-8"))
    workspace = tomllib.loads((root / "Cargo.toml").read_text(encoding="utf-8"))
    version = workspace["workspace"]["package"]["version"]
    need(chart_file["appVersion"] == version, f"appVersion is not {version}")

    configuration = (root / "docs/configuration.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^### `([^`]+)`", configuration, re.MULTILINE))
    variables = set(re.findall(r"^- Variable: `([^`]+)`", configuration, re.MULTILINE))
    routes = (root / "docs/routes-and-roles.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"^\| GET \| `([^`]+)`", routes, re.MULTILINE))
    need(len(known) > 50 and len(paths) > 30, "the reference cannot be read")

    # The schema knows each value and no other, and takes those of the file.
    validator = jsonschema_rs.validator_for(schema)
    for fault in validator.iter_errors(values):
        raise Fault(f"values.yaml: {list(fault.instance_path)}: {fault.message}")
    for path in leaves(values):
        place = schema
        for name in path:
            place = place.get("properties", {}).get(name)
            need(place is not None, f"the schema does not know {'.'.join(path)}")
    for wrong in ({"replicas": "two"}, {"publicUrl": "mortise.example"}, {"service.type": "Else"}):
        need(not validator.is_valid(merged(values, wrong)), f"the schema takes {wrong}")
    need(not validator.is_valid(values | {"replicaCount": 2}), "the schema takes unknown names")

    chart = Chart(folder)
    switches = [
        {"ingress.enabled": True, "ingress.tlsSecret": "t", "ingress.className": "nginx"},
        {"metrics.enabled": False},
        {"metrics.serviceMonitor.enabled": True, "metrics.serviceMonitor.labels": {"a": "b"}},
        {"migration.job": True, "image.pullSecrets": [{"name": "r"}]},
        {"networkPolicy.enabled": True, "networkPolicy.from": [{"podSelector": {}}],
         "networkPolicy.metricsFrom": [{"podSelector": {}}], "networkPolicy.egressPorts": [443, 80]},
        {"podDisruptionBudget.enabled": False, "image.digest": "sha256:" + "0" * 64},
        {"podLabels": {"a": "b"}, "podAnnotations": {"a": "b"}, "nodeSelector": {"a": "b"},
         "tolerations": [{"key": "a"}], "affinity": {"nodeAffinity": {}},
         "service.annotations": {"a": "b"}, "ingress.annotations": {"a": "b"},
         "extraEnvironment": [{"name": "MORTISE_LOG__FILTER", "value": "info"}]},
    ]
    kinds = set()
    rendered = 0
    for count in range(len(switches) + 1):
        for chosen in itertools.combinations(switches, count):
            changes = {key: value for one in chosen for key, value in one.items()}
            given = merged(values, changes)
            need(validator.is_valid(given), f"the schema refuses {changes}")
            dot = {
                "Values": given,
                "Chart": {"AppVersion": chart_file["appVersion"]},
                "Release": {"Name": "desk", "Namespace": "ns", "Service": "Helm"},
            }
            documents = []
            for name, nodes in chart.templates.items():
                text = chart.render(nodes, dot, dot)
                need("{{" not in text, f"{name}: a tag is left")
                if name.endswith(".yaml"):
                    documents += [one for one in yaml.safe_load_all(text) if one]
            try:
                kinds |= set(check_documents(documents, known, variables, paths))
            except (Fault, KeyError) as fault:
                raise Fault(f"with {changes}: {fault!r}") from fault
            rendered += 1

    declared = set(leaves(values))
    unused = {path for path in declared if not any(path[: len(one)] == one for one in chart.used)}
    need(not unused, f"no template uses {unused}")
    plain = {"apps/Deployment", "Service", "PodDisruptionBudget"}
    need({one.split("/")[-1] for one in plain} <= kinds, f"{kinds}")
    print(f"the chart renders in {rendered} ways: {', '.join(sorted(kinds))}")


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"deploy/helm/mortise: {fault}")
