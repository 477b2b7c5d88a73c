"""Train two recipes on one dataset, and compare them on its queries. Needs the extra `train`.

python examples/train_and_compare.py gldv2/ runs/          two more arguments name other recipes
"""

import sys
from pathlib import Path

from obelisk.config import load_recipe
from obelisk.data import read_catalog
from obelisk.errors import ObeliskError, install_command
from obelisk.evaluation import Target, compare_targets

try:
    from obelisk.training.train import train_run
except ModuleNotFoundError as error:
    sys.exit(f"training needs {error.name}: {install_command('train')}")

if len(sys.argv) < 3:
    sys.exit(__doc__)
data, out, *names = sys.argv[1:]
try:
    recipes = [load_recipe(name) for name in names or ("baseline_softmax", "arcface")]
    catalog = read_catalog(data)  # Google Landmarks v2, or a folder per landmark
    runs = [train_run(recipe, catalog, Path(out) / recipe.name) for recipe in recipes]  # finished runs are kept
except ObeliskError as error:
    sys.exit(str(error))
comparison, _ = compare_targets([Target.of_run(run) for run in runs], catalog)
print(comparison.headline())
for arm in comparison.arms:
    low, high = arm.metrics.intervals["top1"]
    print(f"{arm.name}: top-1 {arm.metrics.values['top1']:.3f} ({low:.3f} to {high:.3f})")
