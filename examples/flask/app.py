# SPDX-License-Identifier: Apache-2.0
from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def hello():
    return jsonify(message="Hello, World!")
