-- Says something of an origin, or takes it back.
-- KEYS: marks. ARGV: the field, its life in ms (0: none), a number.
local field, life, number = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if life == 0 then
  redis.call('HDEL', KEYS[1], field)
else
  local time = redis.call('TIME')
  local ending = time[1] * 1000 + math.floor(time[2] / 1000) + life
  redis.call('HSET', KEYS[1], field, string.format('%.0f %s', ending, number))
end
return redis.status_reply('OK')
