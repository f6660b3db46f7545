# frozen_string_literal: true

require "open3"
require_relative "../support/server_process"

# libkino/examples as they were built in the directory that EXAMPLES names.
RSpec.describe "libkino/examples" do
  def words(command)
    name, *arguments = command.split
    [File.join(ENV.fetch("EXAMPLES"), name), *arguments]
  end

  ["hello 0", "hello 0 2", "workers 0 2 queue", "workers 0 2 lanes",
   "workers 0 2 inline"].each do |command|
    it "#{command}: answers, and leaves on TERM" do
      server = ServerProcess.new(*words(command), answer: "Hello World")
      expect(server.stop).to be_success
    end
  end

  ["hello", "hello 0 0", "workers 0", "workers 0 2 sideways"].each do |command|
    it "#{command}: says in one line how it is used" do
      _, line, status = Open3.capture3(*words(command))
      expect(line).to match(/\Ausage: \w+ PORT .*\n\z/)
      expect(status.exitstatus).to eq 1
    end
  end

  it "says in one line that a port is in use" do
    server = ServerProcess.new(*words("hello 0"), answer: "Hello World")
    %w[hello workers].zip(["", "1 queue"]) do |name, rest|
      _, line, status = Open3.capture3(*words("#{name} #{server.port} #{rest}"))
      expect(line).to match(/\A#{name}: .*#{server.port}.*\n\z/)
      expect(status.exitstatus).to eq 1
    end
  ensure
    server&.stop
  end
end
