# frozen_string_literal: true

require "net/http"

# A server of ours under test, as a process that says `listening on 127.0.0.1:PORT` on its first line
# and gives the same answer to every GET; `answer: nil` if it is any.
class ServerProcess
  START_SECONDS = 10
  STOP_SECONDS = 10

  attr_reader :port

  def initialize(*command, answer:)
    @answer = answer
    @output, output = IO.pipe
    @pid = Process.spawn(*command, in: File::NULL, out: output)
    output.close
    @reaper = Process.detach(@pid)
    line = @output.gets if @output.wait_readable(START_SECONDS)
    @port = line.to_s[/\Alistening on 127\.0\.0\.1:(\d+)$/, 1]&.to_i
    # Connections are refused until there is a thread that drives them, a moment later.
    return if @port && answers_within?(START_SECONDS)

    kill
    raise "#{command.join(' ')} does not begin to answer; it says #{line.inspect}"
  end

  # Whether it does what it is for.
  def answers?
    answer = Net::HTTP.get_response(URI("http://127.0.0.1:#{@port}/"))
    @answer.nil? || (answer.code == "200" && answer.body == @answer)
  rescue SystemCallError, IOError, Timeout::Error
    false
  end

  # Sends TERM; gives the exit status, which is that of KILL when TERM was not enough.
  def stop
    Process.kill(:TERM, @pid) if @reaper.alive?
    kill unless @reaper.join(STOP_SECONDS)
    @reaper.value
  end

  private

  def answers_within?(seconds)
    deadline = now + seconds
    nil until (answer = answers?) || now > deadline
    answer
  end

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

  def kill
    Process.kill(:KILL, @pid) if @reaper.alive?
  end
end
