-- A stream is published at an origin; returns where it is published and what it is mapped to then.
-- KEYS: mapping, publisher. ARGV: the mapping, its life, the origin, for how long it counts, 1 if it moves the stream; the
-- publisher that may be replaced.
local publisher = put(KEYS[2], ARGV[3], tonumber(ARGV[4]), ARGV[6])
local old = nil
if publisher == ARGV[3] and ARGV[5] == '1' then old = redis.call('GET', KEYS[1]) end
return { publisher, put(KEYS[1], ARGV[1], tonumber(ARGV[2]), old) }
