#!/usr/bin/env python3
"""From start to the first 200 on /healthz, over TLS, with the certificates there: ours and another's, in turn.

    benches/start.py target/dist/arngate aws-iam-authenticator [RUNS]

Prints the median of each and the ratio of the medians. Loopback only; each server is stopped when it has answered.
"""
import http.client, os, shutil, socket, ssl, statistics, subprocess, sys, tempfile, time

CONFIG = "clusterID: prod\nserver:\n  mapUsers:\n  - {userARN: 'arn:aws:iam::123456789012:user/Alice', username: alice, groups: [a]}\n"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def connected(port):
    """A connection as soon as somebody listens. Asks often, for what is asked in vain is a part of what is measured."""
    for _ in range(100_000):
        client = socket.socket()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # While nobody listens, a connection may be given that very port to come from, and meet itself.
        if client.connect_ex(("127.0.0.1", port)) == 0 and client.getsockname()[1] != port:
            return client
        client.close()
        time.sleep(0.0001)
    sys.exit("nobody listens")


def first_answer(program, folder):
    port = free_port()
    arguments = [program, "server", "--config", f"{folder}/config.yaml", "--state-dir", folder, "--kubeconfig-pregenerated", "--port", str(port)]
    environment = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1"}
    context = ssl.create_default_context(cafile=f"{folder}/cert.pem")
    context.check_hostname = False
    began = time.perf_counter()
    server = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        client = connected(port)
        client.settimeout(5)
        connection.sock = context.wrap_socket(client)
        connection.request("GET", "/healthz")
        if connection.getresponse().status != 200:
            sys.exit(f"{program} does not answer with 200")
        return time.perf_counter() - began
    finally:
        server.kill()
        server.wait()


def main():
    named = sys.argv[1:3]
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/config.yaml", "w") as file:
            file.write(CONFIG)
        # As they are when they have been installed: how a linker has left the file in memory is a tenth of the time, one way or the other.
        programs = [shutil.copy(program, f"{folder}/{number}") for number, program in enumerate(named)]
        subprocess.run([programs[0], "init", "-i", "prod"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        times = {program: [] for program in programs}
        for _ in range(runs):
            for program in programs:
                times[program].append(first_answer(program, folder))
    medians = [statistics.median(times[program]) for program in programs]
    for program, median in zip(named, medians):
        print(f"{median * 1000:6.1f} ms  {program}")
    print(f"ratio {medians[0] / medians[1]:.2f}")


main()
