"""The checked program: every expression typed, every shape known by dim name, every auto written out."""

from guidedsl.ir.expressions import *
from guidedsl.ir.program import *
from guidedsl.ir.statements import *
from guidedsl.ir.sums import *
