"""Write data.json: Fisher's irises as scikit-learn ships them. The file is committed, so nobody needs to run this."""

import json
from pathlib import Path

from sklearn.datasets import load_iris

iris = load_iris()
fields = {"y": iris.data.tolist(), "species": iris.target.tolist()}
Path(__file__).with_name("data.json").write_text(json.dumps(fields) + "\n")
