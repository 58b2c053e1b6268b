"""The cluster's API as its administrator, over one connection: kubectl takes seconds for each call where nothing helps with
virtualization. What kubectl itself has to show is tried by the demo, `exec` and `logs`."""
import base64, http.client, json, pathlib, re, ssl

from machine import Failed, KUBECONFIG

KEYS = pathlib.Path("/run/test-vm")
PODS = "/api/v1/namespaces/default/pods"
_open = None


def forget():
    """The cluster is another one, or was away."""
    global _open
    _open = None


def connect():
    global _open
    text = pathlib.Path(KUBECONFIG).read_text()
    KEYS.mkdir(mode=0o700, exist_ok=True)
    files = []
    for field in ("certificate-authority-data", "client-certificate-data", "client-key-data"):
        files.append(KEYS / field)
        files[-1].write_bytes(base64.b64decode(re.search(rf"{field}: *\"?([A-Za-z0-9+/=]+)", text)[1]))
    context = ssl.create_default_context(cafile=files[0])
    context.load_cert_chain(files[1], files[2])
    host, port = re.search(r"server: *\"?https://([^:/\s]+):(\d+)", text).groups()
    _open = http.client.HTTPSConnection(host, int(port), timeout=120, context=context)


def call(method, path, body=None, form="application/json"):
    """The answer, decoded; None for 404."""
    was_open = _open is not None
    try:
        if _open is None:
            connect()
        data = None if body is None else json.dumps(body)
        _open.request(method, path, body=data, headers={"Content-Type": form, "Accept": "application/json"})
        answer = _open.getresponse()
        said = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        forget()
        if was_open:
            # The server closes connections that are idle.
            return call(method, path, body, form)
        raise Failed(f"{method} {path}: {type(error).__name__}: {error}")
    if answer.status == 404:
        return None
    if answer.status >= 300:
        raise Failed(f"{method} {path}: {answer.status}: {said[:1500]}")
    return json.loads(said) if said.startswith("{") else said


def get(path):
    found = call("GET", path)
    if found is None:
        raise Failed(f"{path} is not there")
    return found
