-- Puts a value where nothing is, or just what it may replace; returns what is there then.
-- KEYS: the key. ARGV: the value, its life in ms (0: no end), and what it may replace, if anything.
local key, value, life = KEYS[1], ARGV[1], tonumber(ARGV[2])
local there = redis.call('GET', key)
if there == value then
  local left = redis.call('PTTL', key)
  if left >= 0 and life == 0 then
    redis.call('PERSIST', key)
  elseif left >= 0 and left < life then
    redis.call('PEXPIRE', key, life)
  end
  return value
end
if there and there ~= ARGV[3] then return there end
if life == 0 then
  redis.call('SET', key, value)
else
  redis.call('SET', key, value, 'PX', life)
end
return value
