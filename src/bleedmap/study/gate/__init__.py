"""The input checks: is this a whole head on plain CT, in HU, such as the network knows?"""
