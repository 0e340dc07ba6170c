"""An oracle: what the contract says must be true, worked out the slow and plain way.

It is written from the contract alone, knows nothing of the services' code, and must stay so: nothing here may import
from `services`, `shared` or `deploy`.
"""
