-- All registrations with their lives, all marks, and how many streams other proxies have at which origin.
-- KEYS: list, marks, loads. ARGV: base, proxy, its loads as a JSON object, their life in ms.
local proxy, own, life = ARGV[2], ARGV[3], tonumber(ARGV[4])
local time = now()

-- First of all, so that a server that takes no writes says so. One that is full may still be asked. What is new, was not
-- there or has ended.
local remembered = read('HGET', KEYS[3], proxy)
local ended = not remembered or tonumber(remembered:match('^%d+') or 0) <= time
local ending = string.format('%.0f', time + life)
local told, is_full = redis.pcall('HSET', KEYS[3], proxy, ending .. ' ' .. own), nil
if type(told) == 'table' and told.err then
  is_full = told.err:find('OOM', 1, true)
  local is_other = told.err:find('WRONGTYPE', 1, true)
  if not is_full and not is_other then return told end
  ended = false
end

-- The fields of a hash, each split into its end and its text. What has ended is removed.
local function fields(key)
  local all, alive = read('HGETALL', key) or {}, {}
  for n = 1, #all, 2 do
    local field, ending, text = all[n], all[n + 1]:match('^(%d+) (.*)$')
    if ending and time < tonumber(ending) then
      table.insert(alive, { name = field, left = tonumber(ending) - time, text = text })
    else
      redis.call('HDEL', key, field)
    end
  end
  return alive
end

local list = read_list()
local registrations = {}
for _, key in ipairs(list or {}) do
  local registration = base .. id_of(key)
  local text = read('GET', registration)
  if text then
    table.insert(registrations, text)
    table.insert(registrations, redis.call('PTTL', registration))
  end
end

local marks = {}
for _, mark in ipairs(fields(KEYS[2])) do
  table.insert(marks, mark.name)
  table.insert(marks, tonumber(mark.text) or 0)
  table.insert(marks, mark.left)
end

local sums = {}
for _, other in ipairs(fields(KEYS[3])) do
  if other.name ~= proxy then
    for id, streams in pairs(decode(other.text) or {}) do
      if type(streams) == 'number' then sums[id] = (sums[id] or 0) + streams end
    end
  end
end
local loads = {}
for id, streams in pairs(sums) do
  table.insert(loads, tostring(id))
  table.insert(loads, streams)
end

return { list and 1 or 0, ended and 0 or 1, is_full and 1 or 0, registrations, marks, loads }
