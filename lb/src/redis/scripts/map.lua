-- Maps a stream to an origin; returns what it is mapped to then, 1 if that is so by this, and its life, or less than 0. Who
-- asks uses it, wherever it is.
-- KEYS: mapping, publisher, marks. ARGV: the mapping, its life, 1 if the client publishes; what may be replaced, and whose
-- registration that is.
local life, old, id = tonumber(ARGV[2]), ARGV[4], ARGV[5]
local there = redis.call('GET', KEYS[1])
if there and there == old and there ~= ARGV[1] and redis.call('GET', KEYS[2]) == id then
  if ARGV[3] == '0' then
    -- It is published there, and nowhere else is anything to play.
    local gone = redis.call('HGET', KEYS[3], 'gone:' .. id)
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if not gone or tonumber(gone:match('^%d+') or 0) <= now then
      return { put(KEYS[1], there, life), 0, redis.call('PTTL', KEYS[1]) }
    end
  end
  redis.call('DEL', KEYS[2])
end
local held = put(KEYS[1], ARGV[1], life, old)
if held ~= ARGV[1] then put(KEYS[1], held, life) end
return { held, held == ARGV[1] and held ~= there and 1 or 0, redis.call('PTTL', KEYS[1]) }
