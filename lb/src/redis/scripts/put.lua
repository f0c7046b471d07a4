-- Puts a value where nothing is, or just what it may replace; what is there already lives on for that long at least.
-- Returns what is there then. A life is in ms; 0: no end.
local function put(key, value, life, old)
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
  if there and there ~= old then return there end
  if life == 0 then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', life)
  end
  return value
end
